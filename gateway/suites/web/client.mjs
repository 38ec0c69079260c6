// Clients of gRPC-Web that others wrote, against the showcase's services behind the gateway: client.mjs URL DESCRIPTORS.
// Messages come from the descriptors, so nothing is generated. Each result is one line of JSON on standard output.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { create, createFileRegistry, fromBinary, toBinary } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";

import { playConnect } from "./connect.mjs";
import { playGoogle } from "./google.mjs";

// A case may take this long, in milliseconds; most take a few.
const PATIENCE = 20_000;

const [url, descriptors] = process.argv.slice(2);
const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, readFileSync(descriptors)));

async function play(name, run) {
  const result = { case: name };
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error("no answer in time")), PATIENCE);
  });
  try {
    await Promise.race([run(), late]);
  } catch (error) {
    result.error = String(error?.stack ?? error);
  }
  clearTimeout(timer);
  console.log(JSON.stringify(result));
}

const tools = {
  url,
  play,
  registry,
  service: (name) => registry.getService(`google.showcase.v1beta1.${name}`),
  // An error that the showcase is told to answer with.
  failure: (code) => {
    const info = registry.getMessage("google.rpc.ErrorInfo");
    const detail = create(info, { reason: "ASKED_FOR", domain: "suites" });
    const value = toBinary(info, detail);
    return { code, message: "refused: 100 % übel", details: [{ typeUrl: `type.googleapis.com/${info.typeName}`, value }] };
  },
  text: "tab\t ☺ \u2028 100 %",
};

await playConnect(tools);
await playGoogle(tools, createRequire(import.meta.url));
// Connections that are kept alive would keep the process, too.
process.exit(0);
