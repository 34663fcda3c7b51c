import { assert, assertEquals, assertThrows } from "@std/assert";
import { OptionError } from "../option_reader.ts";
import { BLK_OPTIONS, resolveBlkOptions } from "./options.ts";

Deno.test("resolveBlkOptions() fills in the defaults of the schema", () => {
  const options = resolveBlkOptions({ path: "disk.img" });
  assertEquals(options, {
    path: "disk.img",
    storage: "file",
    size: 0,
    readOnly: false,
    queues: 1,
    workers: 1,
    segMax: 126,
    engine: "auto",
    direct: false,
    serial: "",
    blockSize: undefined,
    discard: true,
    writeZeroes: true,
    wce: true,
    onError: "report",
    format: "auto",
    share: false,
  });
  const resolved: Record<string, unknown> = { ...options };
  resolved.readonly = options.readOnly;
  for (const spec of BLK_OPTIONS) {
    const key = spec.name.replace(/-(.)/g, (_, c) => c.toUpperCase());
    assert(key in resolved, spec.name);
    if (spec.name === "path" || spec.name === "size") continue;
    // Asking for these is more than not refusing them.
    const otherwise = ["discard", "write-zeroes"].includes(spec.name)
      ? true
      : spec.default;
    assertEquals(resolved[key], otherwise, spec.name);
  }
});

Deno.test("resolveBlkOptions() takes every value that the schema allows", () => {
  const options = resolveBlkOptions({
    path: "/dev/x",
    readonly: true,
    queues: 256,
    segMax: 1008,
    engine: "sync",
    direct: true,
    serial: "12345678901234567890",
    blockSize: "4096",
    discard: false,
    writeZeroes: false,
    wce: false,
    format: "raw",
    share: true,
  });
  assertEquals(options.blockSize, 4096);
  assertEquals(options.queues, 256);
  assertEquals(options.serial.length, 20);
  assertEquals(
    resolveBlkOptions({ path: "x", blockSize: 512 }).blockSize,
    512,
  );
});

Deno.test("resolveBlkOptions() refuses what is wrong, and names it", () => {
  const wrong: [string, Record<string, unknown>][] = [
    ["path", { path: "" }],
    ["path", { path: "a\0b" }],
    ["path", { path: 5 }],
    ["readonly", { readonly: "on" }],
    ["queues", { queues: 0 }],
    ["queues", { queues: 257 }],
    ["queues", { queues: 1.5 }],
    ["queues", { queues: "2" }],
    ["seg-max", { segMax: 0 }],
    ["seg-max", { segMax: 1009 }],
    ["engine", { engine: "magic" }],
    ["direct", { direct: 1 }],
    ["serial", { serial: "123456789012345678901" }],
    ["serial", { serial: "sérial" }],
    ["serial", { serial: 7 }],
    ["block-size", { blockSize: 1024 }],
    ["block-size", { blockSize: "520" }],
    ["discard", { discard: "yes" }],
    ["write-zeroes", { writeZeroes: 0 }],
    ["wce", { wce: null }],
    ["format", { format: "qcow2" }],
    ["share", { share: "no" }],
  ];
  for (const [option, values] of wrong) {
    const error = assertThrows(
      () => resolveBlkOptions({ path: "disk.img", ...values }),
      OptionError,
    );
    assertEquals(error.option, option);
    assertEquals(error.kind, "usage");
    assert(error.message.startsWith(`Cannot use ${option}=`), error.message);
  }
});

Deno.test("resolveBlkOptions() refuses what can have no effect", () => {
  const memory = { storage: "memory", size: 4096 };
  const cases: [Record<string, unknown>, string][] = [
    [
      { path: "a", readonly: true, discard: true },
      "Cannot use discard=on: the disk is read-only",
    ],
    [
      { path: "a", readonly: true, writeZeroes: true },
      "Cannot use write-zeroes=on: the disk is read-only",
    ],
    [
      { ...memory, direct: true },
      "Cannot use direct=on: storage=memory has no image",
    ],
    [
      { ...memory, share: true },
      "Cannot use share=on: storage=memory has no image",
    ],
    [
      { storage: "null", engine: "sync" },
      "Cannot use engine=sync: storage=null has no image",
    ],
    [
      { storage: "null", format: "raw" },
      "Cannot use format=raw: storage=null has no image",
    ],
  ];
  for (const [options, message] of cases) {
    assertEquals(
      assertThrows(() => resolveBlkOptions(options), OptionError).message,
      message,
    );
  }
  resolveBlkOptions({ path: "a", readonly: true, discard: false });
});

Deno.test("resolveBlkOptions() says that the path is missing", () => {
  const error = assertThrows(() => resolveBlkOptions({}), OptionError);
  assertEquals(error.message, '"path" is missing: add path=PATH');
});

Deno.test("the reference of the options names each of them", () => {
  const text = Deno.readTextFileSync(new URL("README.md", import.meta.url));
  const table = text.slice(
    text.indexOf("## Options"),
    text.indexOf("## Formats"),
  );
  const rows = [
    ...table.matchAll(/^\| `([a-z-]+)=(.*?)` +\| .* \| +(.*?) +\|$/gm),
  ];
  assertEquals(rows.map(([, name]) => name), BLK_OPTIONS.map((o) => o.name));
  for (const [i, spec] of BLK_OPTIONS.entries()) {
    const [, , values, shown] = rows[i];
    if (spec.choices) assertEquals(values, spec.choices.join("\\|"));
    if (typeof spec.default === "boolean") {
      assertEquals(shown, spec.default ? "`on`" : "`off`");
    } else if (spec.default) assertEquals(shown, `\`${spec.default}\``);
    for (const limit of [spec.minimum, spec.maximum]) {
      if (limit !== undefined) assert(rows[i][0].includes(`${limit}`));
    }
  }
});

Deno.test("resolveBlkOptions() knows disks without a medium", () => {
  const memory = resolveBlkOptions({ storage: "memory", size: 2 ** 20 });
  assertEquals([memory.path, memory.size], ["", 2 ** 20]);
  assertEquals(resolveBlkOptions({ storage: "null" }).size, 2 ** 40);
  const wrong: [Record<string, unknown>, string][] = [
    [{ storage: "memory" }, "size"],
    [{ storage: "memory", size: 5000 }, "size"],
    [{ storage: "memory", size: 512 }, "size"],
    [{ storage: "memory", size: 8192, path: "x" }, "path"],
    [{ path: "x", size: 8192 }, "size"],
    [{ storage: "tape" }, "storage"],
    [{ storage: "memory", size: 8192, queues: 2, workers: 2 }, "workers"],
    [{ path: "x", workers: 2 }, "workers"],
    [{ path: "x", readOnly: true }, "readOnly"],
    [{}, "path"],
  ];
  const messages: [Record<string, unknown>, string][] = [
    [
      { path: "x", workers: 2 },
      "Cannot use workers=2: there is 1 queue to share (queues=)",
    ],
    [{ storage: "memory" }, '"size" is missing: add size=SIZE'],
  ];
  for (const [options, message] of messages) {
    assertThrows(() => resolveBlkOptions(options), OptionError, message);
  }
  for (const [options, option] of wrong) {
    const error = assertThrows(
      () => resolveBlkOptions(options),
      OptionError,
    );
    assertEquals(error.option, option);
  }
});
