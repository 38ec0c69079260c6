// Google's own gRPC-Web client, which is made for browsers, with an XMLHttpRequest of Node.js: both of its formats.

import assert from "node:assert/strict";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";

export async function playGoogle({ url, play, registry, service, failure, text }, require) {
  globalThis.XMLHttpRequest = require("xhr2");
  const { GrpcWebClientBase, MethodDescriptor, MethodType } = require("grpc-web");

  for (const format of ["binary", "text"]) {
    const group = `google-${format}`;
    const client = new GrpcWebClientBase({ format });
    const call = (kind, name, request, metadata, method) => {
      const rpc = service("Echo").method[name];
      const path = `/${rpc.parent.typeName}/${rpc.name}`;
      const descriptor = new MethodDescriptor(
        path,
        kind,
        Object,
        Object,
        (message) => toBinary(rpc.input, message),
        (bytes) => fromBinary(rpc.output, new Uint8Array(bytes)),
      );
      return client[method](url + path, create(rpc.input, request), metadata, descriptor);
    };
    const unary = (name, request, metadata = {}) => call(MethodType.UNARY, name, request, metadata, "unaryCall");
    const stream = (name, request) =>
      new Promise((resolve) => {
        const seen = { replies: [], error: undefined };
        call(MethodType.SERVER_STREAMING, name, request, {}, "serverStreaming")
          .on("data", (reply) => seen.replies.push(reply.content))
          .on("error", (error) => resolve({ ...seen, error }))
          .on("end", () => resolve(seen));
      });
    const asked = (error, code) => {
      assert.equal(error.code, code, error);
      assert.equal(error.message, failure(0).message);
      const status = registry.getMessage("google.rpc.Status");
      const { details } = fromBinary(status, Buffer.from(error.metadata["grpc-status-details-bin"], "base64"));
      assert.deepEqual(details.map((detail) => detail.typeUrl), ["type.googleapis.com/google.rpc.ErrorInfo"]);
    };
    const failed = (promise) => promise.then(() => assert.fail("no error"), (error) => error);

    await play(`${group}/unary`, async () => {
      const reply = await unary("echo", { response: { case: "content", value: text }, severity: 3 });
      assert.deepEqual([reply.content, reply.severity], [text, 3]);
    });
    await play(`${group}/an error with details`, async () => {
      asked(await failed(unary("block", { response: { case: "error", value: failure(5) } })), 5);
    });
    await play(`${group}/a deadline that passes`, async () => {
      const deadline = String(Date.now() + 300);
      const error = await failed(unary("block", { responseDelay: { seconds: 5n } }, { deadline }));
      assert.equal(error.code, 4, error);
    });
    // In the binary format, the client knows no streams.
    if (format === "text") {
      await play(`${group}/server streaming`, async () => {
        const { replies, error } = await stream("expand", { content: "one two three" });
        assert.deepEqual([replies, error], [["one", "two", "three"], undefined]);
      });
      await play(`${group}/an error midway`, async () => {
        const { replies, error } = await stream("expand", { content: "one two", error: failure(10) });
        assert.deepEqual(replies, ["one", "two"]);
        asked(error, 10);
      });
    }
  }
}
