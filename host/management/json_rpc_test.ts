import { assertEquals, assertMatch } from "@std/assert";
import fc from "fast-check";
import { answer, RpcError, RpcResponse } from "./json_rpc.ts";

const calls: unknown[] = [];

function call(method: string, params: unknown): Promise<unknown> {
  calls.push([method, params]);
  switch (method) {
    case "echo":
      return Promise.resolve(params);
    case "nothing":
      return Promise.resolve(undefined);
    case "refuse":
      return Promise.reject(new RpcError(-32000, "No", { why: 1 }));
    case "break":
      return Promise.reject(new TypeError("Broken"));
    default:
      return Promise.reject(new RpcError(-32601, `No "${method}"`));
  }
}

async function ask(text: string): Promise<unknown> {
  const response = await answer(text, call);
  return response === null ? null : JSON.parse(response);
}

function failure(code: number, message: string, id: unknown = null): unknown {
  return { jsonrpc: "2.0", error: { code, message }, id };
}

Deno.test("answer() answers requests with their results and IDs", async () => {
  for (const id of [0, 1, -1, 1.5, "", "a", null]) {
    assertEquals(
      await ask(JSON.stringify({
        jsonrpc: "2.0",
        method: "echo",
        params: { a: [1] },
        id,
      })),
      { jsonrpc: "2.0", result: { a: [1] }, id },
    );
  }
  assertEquals(
    await ask('{"jsonrpc":"2.0","method":"echo","params":[3],"id":1}'),
    { jsonrpc: "2.0", result: [3], id: 1 },
  );
  assertEquals(await ask('{"jsonrpc":"2.0","method":"nothing","id":1}'), {
    jsonrpc: "2.0",
    result: null,
    id: 1,
  });
});

Deno.test("answer() answers errors with code, message and data", async () => {
  assertEquals(await ask('{"jsonrpc":"2.0","method":"refuse","id":7}'), {
    jsonrpc: "2.0",
    error: { code: -32000, message: "No", data: { why: 1 } },
    id: 7,
  });
  assertEquals(
    await ask('{"jsonrpc":"2.0","method":"break","id":"x"}'),
    failure(-32603, "Broken", "x"),
  );
  assertEquals(
    await ask('{"jsonrpc":"2.0","method":"absent","id":1}'),
    failure(-32601, 'No "absent"', 1),
  );
});

Deno.test("answer() performs notifications and does not answer them", async () => {
  for (const method of ["echo", "refuse", "break", "absent"]) {
    calls.length = 0;
    assertEquals(
      await ask(JSON.stringify({ jsonrpc: "2.0", method, params: [1] })),
      null,
    );
    assertEquals(calls, [[method, [1]]]);
  }
});

Deno.test("answer() refuses what is no JSON", async () => {
  for (const text of ["", "{", "{bad", "[1,", '{"a":1}x', "\u0000"]) {
    const response = await ask(text) as { error: { code: number }; id: null };
    assertEquals([response.error.code, response.id], [-32700, null], text);
  }
});

Deno.test("answer() refuses what is no request", async () => {
  const cases: [unknown, unknown][] = [
    [1, null],
    ["x", null],
    [null, null],
    [{}, null],
    [{ jsonrpc: "2.0", id: 5 }, 5],
    [{ jsonrpc: "1.0", method: "echo", id: 5 }, 5],
    [{ method: "echo", id: 5 }, 5],
    [{ jsonrpc: "2.0", method: 1, id: "a" }, "a"],
    [{ jsonrpc: "2.0", method: "echo", params: 3, id: 5 }, 5],
    [{ jsonrpc: "2.0", method: "echo", params: null, id: 5 }, 5],
    [{ jsonrpc: "2.0", method: "echo", id: {} }, null],
    [{ jsonrpc: "2.0", method: "echo", id: true }, null],
    [{ jsonrpc: "2.0", method: 1 }, null],
  ];
  calls.length = 0;
  for (const [message, id] of cases) {
    const response = await ask(JSON.stringify(message)) as {
      error: { code: number; message: string };
      id: unknown;
    };
    assertEquals([response.error.code, response.id], [-32600, id]);
    assertMatch(response.error.message, /^No JSON-RPC 2\.0 request: /);
  }
  assertEquals(calls, []);
});

Deno.test("answer() answers the requests of a batch in their order", async () => {
  assertEquals(
    await ask(`[
      {"jsonrpc":"2.0","method":"echo","params":[1],"id":1},
      {"jsonrpc":"2.0","method":"echo","params":[2]},
      {"jsonrpc":"2.0","method":"refuse","id":"b"},
      {"foo":"bar"},
      [],
      {"jsonrpc":"2.0","method":"nothing","id":3}
    ]`).then((responses) =>
      (responses as { id: unknown; result?: unknown; error?: unknown }[])
        .map(({ id, result, error }) => [id, result, error !== undefined])
    ),
    [
      [1, [1], false],
      ["b", undefined, true],
      [null, undefined, true],
      [null, undefined, true],
      [3, null, false],
    ],
  );
  assertEquals(await ask('[{"jsonrpc":"2.0","method":"echo"}]'), null);
});

Deno.test("answer() bounds a batch", async () => {
  const batch = (count: number) =>
    ask(JSON.stringify(
      Array.from(
        { length: count },
        (_, id) => ({ jsonrpc: "2.0", method: "nothing", id }),
      ),
    ));
  assertEquals((await batch(64) as unknown[]).length, 64);
  assertEquals(
    await batch(65),
    failure(-32600, "A batch of 65 requests: 1 to 64 are possible"),
  );
  assertEquals(
    await batch(0),
    failure(-32600, "A batch of 0 requests: 1 to 64 are possible"),
  );
});

Deno.test("answer() answers anything with a response or not at all", async () => {
  await fc.assert(fc.asyncProperty(
    fc.oneof(fc.string(), fc.json(), fc.json().map((json) => `[${json}]`)),
    async (text) => {
      const response = await ask(text);
      if (response === null) return;
      const all = Array.isArray(response) ? response : [response];
      for (const each of all) RpcResponse.parse(each);
    },
  ));
});
