import { assertEquals, assertThrows } from "@std/assert";
import type { OptionSpec } from "../../backends/option_schema.ts";
import { HostError } from "../error.ts";
import { splitOptions } from "./grammar.ts";
import {
  camelCase,
  describeSize,
  formatLimit,
  formatSize,
  parseOptions,
  type RawValue,
} from "./parse.ts";

const SCHEMA: readonly OptionSpec[] = [
  { name: "path", type: "path", required: true, help: "image" },
  { name: "serial", type: "string", maximumLength: 5, help: "serial" },
  {
    name: "queues",
    type: "integer",
    minimum: 1,
    maximum: 64,
    default: 1,
    help: "queues",
  },
  { name: "offset", type: "integer", minimum: -5, help: "offset" },
  { name: "window", type: "size", maximum: 1024 ** 4, help: "window" },
  { name: "readonly", type: "flag", default: false, help: "no writes" },
  {
    name: "block-size",
    type: "choice",
    choices: ["512", "4096"],
    default: "512",
    help: "block size",
  },
];
const DEFAULTS = { queues: 1, readonly: false, blockSize: "512" };

function parse(text: string): Record<string, unknown> {
  return parseOptions("--blk", SCHEMA, splitOptions(text));
}

function parseJson(pairs: [string, RawValue][]): Record<string, unknown> {
  return parseOptions("devices[0]", SCHEMA, pairs);
}

function refusal(work: () => unknown): string {
  const error = assertThrows(work, HostError);
  assertEquals(error.kind, "usage");
  return error.message;
}

Deno.test("parseOptions() converts every type and adds defaults", () => {
  assertEquals(parse("path=a"), { path: "a", ...DEFAULTS });
  assertEquals(
    parse(
      "path=a,,b,serial=,queues=64,offset=-5,window=1.5G,readonly,block-size=4096",
    ),
    {
      path: "a,b",
      serial: "",
      queues: 64,
      offset: -5,
      window: 1.5 * 1024 ** 3,
      readonly: true,
      blockSize: "4096",
    },
  );
});

Deno.test("parseOptions() reads flags and sizes as QEMU writes them", () => {
  const flags: [string, boolean][] = [
    ["on", true],
    ["off", false],
    ["yes", true],
    ["no", false],
    ["true", true],
    ["false", false],
  ];
  for (const [word, value] of flags) {
    assertEquals(parse(`path=a,readonly=${word}`).readonly, value, word);
  }
  const sizes: [string, number][] = [
    ["0", 0],
    ["512", 512],
    ["4k", 4096],
    ["2M", 2 * 1024 ** 2],
    ["0.5K", 512],
    ["1T", 1024 ** 4],
  ];
  for (const [text, value] of sizes) {
    assertEquals(parse(`path=a,window=${text}`).window, value, text);
  }
});

Deno.test("parseOptions() takes JSON values", () => {
  assertEquals(
    parseJson([
      ["path", "a"],
      ["queues", 2],
      ["window", 4096],
      ["readonly", true],
      ["block-size", 4096],
    ]),
    { path: "a", queues: 2, window: 4096, readonly: true, blockSize: "4096" },
  );
  assertEquals(parseJson([["path", "a"], ["window", "4K"]]).window, 4096);
});

Deno.test("parseOptions() names the option, the value and what is right", () => {
  const cases: [string, string][] = [
    ["", '"path" is missing: add path=PATH'],
    ["path=", '"path=" names no file'],
    ["path=a\0b", '"path=a\\u0000b" contains a NUL character'],
    ["path=a,path=b", '"path" is given twice'],
    ["path", '"path" needs a value: path=PATH'],
    [
      "disk.img",
      '"disk.img" is no option; for a file of that name write path=disk.img',
    ],
    ["paht=a", '"paht" is no option (did you mean "path"?)'],
    ["read-only", '"read-only" is no option (did you mean "readonly"?)'],
    [
      "zzz=1",
      '"zzz" is no option; options are path, serial, queues, offset, window, readonly, block-size',
    ],
    ["path=a,queues=0", '"queues=0" is no integer from 1 to 64'],
    ["path=a,queues=65", '"queues=65" is no integer from 1 to 64'],
    ["path=a,queues=1.5", '"queues=1.5" is no integer from 1 to 64'],
    ["path=a,queues=0x2", '"queues=0x2" is no integer from 1 to 64'],
    ["path=a,queues=", '"queues=" is no integer from 1 to 64'],
    ["path=a,queues", '"queues" needs a value: queues=N'],
    ["path=a,offset=-6", '"offset=-6" is no integer of -5 or more'],
    [
      "path=a,offset=9007199254740992",
      '"offset=9007199254740992" is no integer of -5 or more',
    ],
    ["path=a,window=2T", '"window=2T" is no size from 0 to 1T'],
    ["path=a,window=-1", '"window=-1" is no size from 0 to 1T'],
    [
      "path=a,window=1X",
      '"window=1X" is no size from 0 to 1T: bytes, or a number with one of the suffixes K, M, G, T and P',
    ],
    [
      "path=a,window=0.3",
      '"window=0.3" is no size from 0 to 1T: bytes, or a number with one of the suffixes K, M, G, T and P',
    ],
    ["path=a,window", '"window" needs a value: window=SIZE'],
    ["path=a,readonly=maybe", '"readonly=maybe" is neither on nor off'],
    ["path=a,readonly=", '"readonly=" is neither on nor off'],
    ["path=a,block-size=1000", '"block-size=1000" is none of 512, 4096'],
    [
      "path=a,block-size=409",
      '"block-size=409" is none of 512, 4096 (did you mean "4096"?)',
    ],
    ["path=a,block-size", '"block-size" needs a value: block-size=512|4096'],
    [
      "path=a,serial=öööö",
      '"serial=öööö" is too long: 8 bytes, at most 5 are possible',
    ],
    ["path=a,serial", '"serial" needs a value: serial=TEXT'],
    [
      "path=a,__proto__=1",
      '"__proto__" is no option; options are path, serial, queues, offset, window, readonly, block-size',
    ],
  ];
  for (const [text, expected] of cases) {
    assertEquals(refusal(() => parse(text)), `--blk: ${expected}`, text);
  }
});

Deno.test("parseOptions() refuses JSON values of the wrong type", () => {
  const cases: [string, RawValue, string][] = [
    ["path", 5, '"path=5" is no string'],
    ["path", true, '"path=true" is no string'],
    ["queues", true, '"queues=true" is no integer from 1 to 64'],
    ["queues", 1.5, '"queues=1.5" is no integer from 1 to 64'],
    ["window", true, '"window=true" is no size from 0 to 1T'],
    ["window", 0.5, '"window=0.5" is no size from 0 to 1T'],
    ["readonly", 1, '"readonly=1" is neither on nor off'],
    ["block-size", false, '"block-size=false" is none of 512, 4096'],
  ];
  for (const [name, value, expected] of cases) {
    const message = refusal(() => parseJson([[name, value]]));
    assertEquals(message, `devices[0]: ${expected}`);
  }
});

Deno.test("formatSize() uses the largest suffix that divides", () => {
  const cases: [number, string][] = [
    [0, "0"],
    [512, "512"],
    [1024, "1K"],
    [1536, "1536"],
    [1024 ** 3, "1G"],
    [1.5 * 1024 ** 3, "1536M"],
    [1024 ** 5, "1P"],
  ];
  for (const [bytes, text] of cases) assertEquals(formatSize(bytes), text);
});

Deno.test("formatLimit() says what is just below a round number", () => {
  const cases: [number, string][] = [
    [0, "0"],
    [4096, "4K"],
    [2 ** 44 - 4096, "16T less 4K"],
    [2 ** 30 - 1, "1G less 1"],
    [123456, "123456"],
    [1234567, "1234567"],
    [3 * 2 ** 40 - 1, "3T less 1"],
  ];
  for (const [bytes, text] of cases) assertEquals(formatLimit(bytes), text);
});

Deno.test("describeSize() is for people", () => {
  assertEquals(describeSize(1536), "1536 bytes");
  assertEquals(describeSize(2 * 1024 ** 3), "2 GiB");
});

Deno.test("camelCase() joins words", () => {
  assertEquals(camelCase("path"), "path");
  assertEquals(camelCase("block-size"), "blockSize");
  assertEquals(camelCase("write-zeroes-max"), "writeZeroesMax");
});
