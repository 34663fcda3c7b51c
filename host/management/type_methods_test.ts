import {
  assert,
  assertEquals,
  assertObjectMatch,
  assertRejects,
} from "@std/assert";
import { LUN_OPTIONS } from "../../backends/scsi/options.ts";
import { camelCase } from "../options/parse.ts";
import { RpcError } from "./json_rpc.ts";
import { Methods } from "./methods.ts";
import type { ManagedDevice } from "./selection.ts";
import { registerTypeMethods } from "./type_methods.ts";

/** A device that answers a command with its parameters, and remembers it. */
function device(type: string, asked: unknown[]): ManagedDevice {
  return {
    name: type,
    type,
    process: null,
    amend: () => {},
    status: () => Promise.resolve({}),
    command: (command, params) => {
      asked.push([command, params]);
      return Promise.resolve({ ...params });
    },
  };
}

function methodsOf(asked: unknown[] = []): Methods {
  const methods = new Methods({ title: "test", version: "9" });
  const types = ["net", "scsi", "balloon"];
  registerTypeMethods(methods, types.map((type) => device(type, asked)));
  return methods;
}

Deno.test("lun.add hands on the keys of --lun, and refuses all others", async () => {
  const asked: unknown[] = [];
  const methods = methodsOf(asked);
  const unit = { target: 4, path: "a.img", readonly: true, blockSize: 4096 };
  assertObjectMatch(await methods.call("lun.add", unit) as object, {
    name: "scsi",
    lun: 0,
    ...unit,
  });
  assertEquals(asked, [["lun-add", { ...unit, lun: 0 }]]);
  const wrong: [object, string][] = [
    [
      { path: "a.img", readOnly: true },
      'Cannot call "lun.add": Unrecognized key: "readOnly" (did you mean "readonly"?)',
    ],
    [
      { path: "a.img", queues: 2 },
      'Unrecognized key: "queues"; there are name',
    ],
    [{ path: "a.img", readonly: "on" }, "readonly: Invalid input: expected"],
  ];
  for (const [params, message] of wrong) {
    await assertRejects(
      () => methods.call("lun.add", params),
      RpcError,
      message,
    );
  }
  assertEquals(asked.length, 1);
});

Deno.test("rpc.discover describes every key of lun.add", () => {
  const { methods } = methodsOf().describe();
  const { params } = methods.find(({ name }) => name === "lun.add")!;
  assertEquals(
    params.map(({ name }) => name),
    ["name", ...LUN_OPTIONS.map(({ name }) => camelCase(name))],
  );
  for (const { name, required, schema } of params) {
    assertEquals(required, false);
    assert((schema as { description?: string }).description, name);
  }
});
