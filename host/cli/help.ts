/**
 * Help texts and the reference page, made from the schemas.
 *
 * @module
 */

import type { OptionSpec } from "../../backends/option_schema.ts";
import { DEVICE_TYPES } from "../device_types.ts";
import { COMMON_OPTIONS } from "../options/device_specs.ts";
import { formatSize, usageOf } from "../options/parse.ts";
import { PROGRAM } from "../version.ts";
import { type CommandSpec, flagLabel, type FlagSpec } from "./command.ts";

const WIDTH = 80;
const LABEL_WIDTH = 26;

/** The help text of a command. */
export function commandHelp(spec: CommandSpec): string {
  const flags = [...spec.flags, HELP_FLAG];
  const lines = [
    ...spec.usage.map((form, i) =>
      `${i === 0 ? "Usage: " : "       "}${PROGRAM} ${spec.name} ${form}`
        .trimEnd()
    ),
    "",
    `${spec.summary}.`,
    "",
    "Options:",
    ...flags.flatMap((flag) => entry(flagLabel(flag), describe(flag))),
  ];
  if (spec.notes !== undefined) lines.push("", ...spec.notes);
  return lines.join("\n");
}

const HELP_FLAG: FlagSpec = {
  name: "help",
  type: "flag",
  help: "print this text and exit",
};

/** A list of keys, as the help text and the reference page show it. */
interface KeyList {
  readonly flag: string;
  readonly title: string;
  readonly keys: readonly OptionSpec[];
}

/** The keys of all types and of their parts, without those of every device. */
function keyLists(): KeyList[] {
  return DEVICE_TYPES.flatMap(({ name, title, options, parts }) => {
    const lists: KeyList[] = [{ flag: name, title, keys: options }];
    if (parts !== undefined) {
      const owner: OptionSpec = {
        name: parts.owner,
        type: "string",
        help:
          `id or socket of the --${name} that it belongs to, if there are ` +
          "several",
      };
      const keys = [owner, ...parts.options];
      lists.push({ flag: parts.name, title: parts.title, keys });
    }
    return lists;
  });
}

/** The options of the devices, one paragraph for each type. */
export function deviceHelp(): string[] {
  const entries = (keys: readonly OptionSpec[]) =>
    keys.flatMap((key) => entry(usageOf(key), describe(key)));
  return [
    "KEYS are written key=value,key=value; a comma in a value is doubled. A flag may",
    "stand alone, which means on.",
    ...keyLists().flatMap(({ flag, title, keys }) => [
      "",
      `KEYS of --${flag}, a ${title}:`,
      ...entries(keys),
    ]),
    "",
    "KEYS of every device:",
    ...entries(COMMON_OPTIONS),
  ];
}

/** The help of an option with its limits and its default. */
function describe(option: OptionSpec): string {
  const facts = [limits(option), defaultOf(option)].filter((s) => s !== "");
  return facts.length === 0
    ? option.help
    : `${option.help} (${facts.join("; ")})`;
}

function limits(option: OptionSpec): string {
  if (option.required === true) return "required";
  const { minimum, maximum } = option;
  const format = option.type === "size" ? formatSize : String;
  if (maximum === undefined || maximum >= 2 ** 31 - 1) return "";
  return `${format(minimum ?? 0)} to ${format(maximum)}`;
}

function defaultOf({ type, default: value }: OptionSpec): string {
  if (value === undefined || value === "" || value === false) return "";
  if (value === true) return "default on";
  const text = type === "size" ? formatSize(Number(value)) : String(value);
  return `default ${text}`;
}

/** A label and its text beside it, wrapped. */
function entry(label: string, text: string): string[] {
  const indent = " ".repeat(LABEL_WIDTH + 2);
  const rows = wrap(text, WIDTH - indent.length);
  const fits = label.length < LABEL_WIDTH - 1;
  const first = `  ${label.padEnd(LABEL_WIDTH)}`;
  return fits
    ? [first + rows[0], ...rows.slice(1).map((row) => indent + row)]
    : [first.trimEnd(), ...rows.map((row) => indent + row)];
}

function wrap(text: string, width: number): string[] {
  const rows: string[] = [];
  let row = "";
  for (const word of text.split(" ")) {
    if (row !== "" && row.length + 1 + word.length > width) {
      rows.push(row);
      row = word;
    } else {
      row = row === "" ? word : `${row} ${word}`;
    }
  }
  return [...rows, row];
}

/** The reference page of all commands and options, as Markdown. */
export function markdownPage(commands: readonly CommandSpec[]): string {
  const lines = [
    "# Options",
    "",
    "This page is the output of `main.ts options --markdown`, made from the schemas",
    "that the command line and the config file are read with.",
    "",
    "A list of options is written `key=value,key=value`. A comma in a value is",
    "doubled: `path=a,,b.img`. A flag is `on` or `off` and may stand alone, which",
    "means `on`. Sizes are bytes, or have one of the suffixes K, M, G, T and P",
    "(powers of 1024).",
    "",
    "Exit codes: 0 after a clean stop, 1 after a failure, 2 when the command line or",
    "the config file is wrong. A second SIGINT or SIGTERM ends a server that is",
    "stopping at once, with 130 or 143.",
    ...PERMISSIONS,
  ];
  for (const { flag, title, keys } of keyLists()) {
    lines.push(
      "",
      `## \`--${flag} KEYS\`: ${title}`,
      "",
      ...table("key", keys.map((key) => optionRow(key))),
    );
  }
  lines.push(
    "",
    "## Keys of every device",
    "",
    ...table("key", COMMON_OPTIONS.map((option) => optionRow(option))),
    ...CONFIG_FILE,
  );
  for (const command of commands) {
    const { name, usage, summary, flags, notes } = command;
    const rows = [...flags, HELP_FLAG].map((flag) =>
      optionRow(flag, flagLabel(flag))
    );
    lines.push(
      "",
      `## \`${PROGRAM} ${name}\``,
      "",
      `${summary}.`,
      "",
      "```text",
      ...usage.map((form) => `${PROGRAM} ${name} ${form}`.trimEnd()),
      "```",
      "",
      ...table("option", rows),
    );
    if (notes !== undefined && name !== "serve") {
      lines.push("", "```text", ...notes, "```");
    }
  }
  return lines.join("\n");
}

const PERMISSIONS = [
  "",
  "## Permissions",
  "",
  "`deno run` needs these, and no others:",
  "",
  "- `--allow-ffi`, which cannot be narrowed: sockets, memory and images are used",
  "  through the C library, and processes are started through it. Images, the",
  "  config file and sockets need no further permission, wherever they are.",
  "- `--allow-read=DIR` for `serve --supervise=off`, `blk` and its like, where DIR",
  "  is the folder of this program: a device's thread loads its modules from there.",
  "- `--allow-write=vhostd-data` for `serve` with default paths: it makes that",
  "  folder.",
  "",
  "The processes that `serve` starts for devices have the first two.",
];

const CONFIG_FILE = [
  "",
  "## Config file",
  "",
  "`serve --config=FILE` reads JSON. `devices` holds one object for each device:",
  "its `type` and its keys; a SCSI host lists its logical units under `luns`. The",
  "other members are the options of `serve` below; those of the command line win.",
  "There has to be a device, in the file or on the command line. Relative paths are",
  "those of the process.",
  "",
  "```json",
  JSON.stringify(
    {
      devices: [
        { type: "blk", path: "disk.img", queues: 2, readonly: true },
        { type: "scsi", luns: [{ target: 1, path: "data.img" }] },
      ],
      management: "off",
      "log-level": "debug",
    },
    null,
    2,
  ),
  "```",
];

function optionRow(
  option: OptionSpec,
  label: string = usageOf(option),
): string[] {
  const range = limits(option);
  return [
    `\`${label.replaceAll("|", "\\|")}\``,
    range === "" ? option.help : `${option.help} (${range})`,
    markdownDefault(option),
  ];
}

function markdownDefault({ type, default: value }: OptionSpec): string {
  if (value === undefined || value === "") return "";
  if (type === "size") return `\`${formatSize(Number(value))}\``;
  if (typeof value === "boolean") return value ? "`on`" : "`off`";
  return `\`${value}\``;
}

/** A Markdown table in the form that `deno fmt` gives it. */
function table(label: string, rows: readonly string[][]): string[] {
  const head = [label, "meaning", "default"];
  const widths = head.map((title, i) =>
    Math.max(title.length, ...rows.map((row) => row[i].length))
  );
  const line = (cells: readonly string[]) =>
    `| ${cells.map((cell, i) => cell.padEnd(widths[i])).join(" | ")} |`;
  return [
    line(head),
    line(widths.map((width) => "-".repeat(width))),
    ...rows.map(line),
  ];
}
