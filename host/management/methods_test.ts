import {
  assertEquals,
  assertObjectMatch,
  assertRejects,
  assertThrows,
} from "@std/assert";
import { z } from "zod";
import { HostError } from "../error.ts";
import { RpcError } from "./json_rpc.ts";
import { Methods } from "./methods.ts";

function example(): Methods {
  const methods = new Methods({ title: "test", version: "1.2.3" });
  methods.register("add", {
    summary: "Adds",
    params: z.strictObject({ a: z.number(), summand: z.optional(z.int()) }),
    result: z.number(),
    handler: ({ a, summand = 0 }) => a + summand,
  });
  const nothing = z.strictObject({});
  methods.register("refuse", {
    summary: "Refuses",
    params: nothing,
    result: z.null(),
    handler: () => {
      throw new HostError("device", "Not\n now");
    },
  });
  methods.register("fail", {
    summary: "Fails",
    params: nothing,
    result: z.null(),
    handler: () => Promise.reject(new TypeError("x is undefined")),
  });
  methods.register("lie", {
    summary: "Returns something else",
    params: nothing,
    result: z.object({ count: z.number() }),
    handler: () => ({ count: "1" }) as unknown as { count: number },
  });
  return methods;
}

async function refusal(
  name: string,
  params?: unknown,
): Promise<[number, string, unknown]> {
  const error = await assertRejects(
    () => example().call(name, params),
    RpcError,
  );
  return [error.code, error.message, error.data];
}

Deno.test("Methods.call() checks parameters and returns the result", async () => {
  const methods = example();
  assertEquals(await methods.call("add", { a: 1, summand: 2 }), 3);
  assertEquals(await methods.call("add", { a: 1.5 }), 1.5);
});

Deno.test("Methods.call() refuses unknown methods and wrong parameters", async () => {
  const cases: [string, unknown, number, string][] = [
    ["ad", {}, -32601, 'There is no method "ad" (did you mean "add"?)'],
    ["toString", {}, -32601, 'There is no method "toString"'],
    ["", {}, -32601, 'There is no method ""'],
    [
      "add",
      undefined,
      -32602,
      'Cannot call "add": a: Invalid input: expected number, received undefined',
    ],
    [
      "add",
      { a: "1" },
      -32602,
      'Cannot call "add": a: Invalid input: expected number, received string',
    ],
    [
      "add",
      { a: 1, c: 2 },
      -32602,
      'Cannot call "add": Unrecognized key: "c"; there are a, summand',
    ],
    [
      "add",
      { a: 1, sumand: 2, c: 2 },
      -32602,
      'Cannot call "add": Unrecognized keys: "sumand", "c" (did you mean "summand"?)',
    ],
    [
      "fail",
      { c: 2 },
      -32602,
      'Cannot call "fail": Unrecognized key: "c"; there are none here',
    ],
    [
      "add",
      [1, 2],
      -32602,
      'Cannot call "add": parameters are given by name, in an object',
    ],
  ];
  for (const [name, params, code, message] of cases) {
    assertEquals(await refusal(name, params), [code, message, undefined]);
  }
});

Deno.test("Methods.call() tells refusals from failures", async () => {
  assertEquals(await refusal("refuse"), [-32000, "Not; now", {
    kind: "device",
  }]);
  assertEquals(await refusal("fail"), [-32603, "x is undefined", undefined]);
  assertEquals(await refusal("lie"), [
    -32603,
    'The result of "lie" is not what its schema says: count: Invalid input: expected number, received string',
    undefined,
  ]);
});

Deno.test("Methods.register() refuses a name twice", () => {
  const methods = example();
  assertThrows(
    () =>
      methods.register("add", {
        summary: "",
        params: z.strictObject({}),
        result: z.null(),
        handler: () => null,
      }),
    TypeError,
    'The method "add" is registered already',
  );
});

Deno.test("rpc.discover describes all methods as OpenRPC", async () => {
  const methods = example();
  const document = await methods.call("rpc.discover", {}) as Record<
    string,
    unknown
  >;
  assertObjectMatch(document, {
    openrpc: "1.3.2",
    info: { title: "test", version: "1.2.3" },
  });
  const described = document.methods as Record<string, unknown>[];
  assertEquals(described.map(({ name }) => name), methods.names);
  assertObjectMatch(described[1], {
    name: "add",
    summary: "Adds",
    paramStructure: "by-name",
    params: [
      { name: "a", required: true, schema: { type: "number" } },
      { name: "summand", required: false, schema: { type: "integer" } },
    ],
    result: { name: "result", schema: { type: "number" } },
  });
  assertEquals(JSON.parse(JSON.stringify(document)), document);
});
