import { assertEquals } from "@std/assert";
import { z } from "zod";
import type { OptionSpec } from "../../backends/option_schema.ts";
import { LUN_OPTIONS, resolveLun } from "../../backends/scsi/options.ts";
import { optionSchemas } from "./option_schemas.ts";

const SPECS: readonly OptionSpec[] = [
  { name: "may-be", type: "flag", default: true, help: "a flag" },
  { name: "depth", type: "integer", minimum: 1, maximum: 8, help: "a number" },
  { name: "room", type: "size", minimum: 512, help: "bytes" },
  { name: "block-size", type: "choice", choices: ["512", "4096"], help: "b" },
  { name: "color", type: "choice", choices: ["red", "16"], help: "c" },
  { name: "label", type: "string", maximumLength: 5, help: "d" },
  { name: "path", type: "path", help: "e" },
];

const schema = z.strictObject(optionSchemas(SPECS));

Deno.test("optionSchemas() takes what an option takes, and fills in nothing", () => {
  const all = {
    mayBe: false,
    depth: 8,
    room: 512,
    blockSize: 4096,
    color: "16",
    label: "abcde",
    path: "/a",
  };
  assertEquals(schema.parse(all), all);
  assertEquals(schema.parse({ blockSize: "512" }), { blockSize: "512" });
  assertEquals(schema.parse({}), {});
});

Deno.test("optionSchemas() refuses all else", () => {
  const wrong: Record<string, unknown>[] = [
    { mayBe: "on" },
    { depth: 9 },
    { depth: 0 },
    { depth: 1.5 },
    { room: 511 },
    { blockSize: 513 },
    { color: 16 },
    { label: "abcdef" },
    { path: 1 },
    { "may-be": true },
  ];
  for (const values of wrong) {
    assertEquals(schema.safeParse(values).success, false, Deno.inspect(values));
  }
});

Deno.test("optionSchemas() describes every option", () => {
  const { properties = {}, required } = z.toJSONSchema(schema, { io: "input" });
  assertEquals(required, undefined);
  assertEquals(properties.mayBe, {
    type: "boolean",
    default: true,
    description: "a flag",
  });
  assertEquals(properties.depth, {
    type: "integer",
    minimum: 1,
    maximum: 8,
    description: "a number",
  });
  assertEquals(
    Object.keys(properties),
    ["mayBe", "depth", "room", "blockSize", "color", "label", "path"],
  );
});

Deno.test("optionSchemas() agrees with who reads the options of a logical unit", () => {
  const units = z.strictObject(optionSchemas(LUN_OPTIONS));
  for (
    const unit of [
      { path: "a", target: 255, lun: 16383, readonly: true, blockSize: 512 },
      { type: "cdrom", blockSize: "2048", removable: false },
      { path: "a", thin: true, wwn: "0x5000000000000001", engine: "sync" },
    ]
  ) assertEquals(resolveLun(units.parse(unit)), resolveLun(unit));
});
