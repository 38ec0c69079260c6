// Connect's client with its gRPC-Web transport, over HTTP/1.1 and HTTP/2.

import assert from "node:assert/strict";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-node";

export async function playConnect({ url, play, registry, service, failure, text }) {
  for (const httpVersion of ["1.1", "2"]) {
    const group = `connect-http${httpVersion[0]}`;
    const transport = createGrpcWebTransport({ baseUrl: url, httpVersion });
    const echo = createClient(service("Echo"), transport);
    const sequence = createClient(service("SequenceService"), transport);
    const info = registry.getMessage("google.rpc.ErrorInfo");

    const refused = async (call, code) => {
      const error = await call().then(
        () => assert.fail("no error"),
        (reason) => ConnectError.from(reason),
      );
      assert.equal(Code[error.code], Code[code]);
      return error;
    };
    const asked = (error) => {
      assert.equal(error.rawMessage, failure(0).message);
      assert.deepEqual(error.findDetails(info).map((detail) => detail.reason), ["ASKED_FOR"]);
    };
    const expand = async (request, options) => {
      const words = [];
      for await (const reply of echo.expand(request, options)) words.push(reply.content);
      return words;
    };

    await play(`${group}/unary`, async () => {
      const reply = await echo.echo({ response: { case: "content", value: text }, severity: 3 });
      assert.deepEqual([reply.content, reply.severity], [text, 3]);
    });
    await play(`${group}/a message of a megabyte`, async () => {
      const value = "0123456789abcdef".repeat(1 << 16);
      const reply = await echo.echo({ response: { case: "content", value } });
      assert.equal(reply.content, value);
    });
    await play(`${group}/metadata`, async () => {
      let trailer;
      // The showcase hands all metadata back in the trailers.
      await echo.echo(
        { response: { case: "content", value: "x" } },
        { headers: { "x-custom": "one", "x-custom-bin": "AAEC" }, onTrailer: (seen) => (trailer = seen) },
      );
      assert.deepEqual([trailer.get("x-custom"), trailer.get("x-custom-bin")], ["one", "AAEC"]);
    });
    await play(`${group}/server streaming`, async () => {
      assert.deepEqual(await expand({ content: "one two three" }), ["one", "two", "three"]);
    });
    await play(`${group}/server streaming of nothing`, async () => {
      assert.deepEqual(await expand({}), []);
    });
    await play(`${group}/an error midway`, async () => {
      const words = [];
      const call = async () => {
        for await (const reply of echo.expand({ content: "one two", error: failure(Code.Aborted) })) words.push(reply.content);
      };
      asked(await refused(call, Code.Aborted));
      assert.deepEqual(words, ["one", "two"]);
    });
    for (const code of [Code.InvalidArgument, Code.NotFound, Code.Unauthenticated, Code.Unavailable, Code.DataLoss]) {
      await play(`${group}/an error of code ${Code[code]} with details`, async () => {
        asked(await refused(() => echo.block({ response: { case: "error", value: failure(code) } }), code));
      });
    }
    await play(`${group}/a deadline that passes`, async () => {
      const call = () => echo.block({ responseDelay: { seconds: 5n } }, { timeoutMs: 300 });
      await refused(call, Code.DeadlineExceeded);
    });
    await play(`${group}/the service learns the deadline`, async () => {
      const { name } = await sequence.createSequence({ sequence: { responses: [{ status: {} }] } });
      const before = Date.now();
      await sequence.attemptSequence({ name }, { timeoutMs: 120_000 });
      const { attempts } = await sequence.getSequenceReport({ name: `${name}/sequenceReport` });
      const left = Number(attempts[0].attemptDeadline.seconds) * 1000 - before;
      assert.ok(left > 60_000 && left < 130_000, `${left} ms were left`);
    });
    await play(`${group}/a stream that the client leaves`, async () => {
      const leave = new AbortController();
      const call = async () => {
        const waits = { content: "one two", streamWaitTime: { seconds: 60n } };
        for await (const _ of echo.expand(waits, { signal: leave.signal })) leave.abort();
      };
      await refused(call, Code.Canceled);
    });
  }
}
