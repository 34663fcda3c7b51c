/**
 * `blk`, `net`, `scsi`, `balloon`: each serves one device by the conventions that
 * QEMU and libvirt have for back-end programs.
 *
 * Source: `docs/interop/vhost-user.rst` of QEMU, "Backend program conventions";
 * the JSON of `--print-capabilities` and `--print-json` is described in
 * `docs/interop/vhost-user.json`.
 *
 * @module
 */

import { fromFileUrl, isAbsolute } from "@std/path";
import type { DeviceType } from "../device_types.ts";
import { HostError } from "../error.ts";
import { Logger } from "../log.ts";
import { planDevices } from "../options/device_specs.ts";
import type { RawValue } from "../options/parse.ts";
import { usageOf } from "../options/parse.ts";
import { LOG_OPTIONS, settingsOf } from "../options/settings.ts";
import { requireRuntime } from "../requirements.ts";
import { type CommandSpec, type FlagSpec, parseCommand } from "./command.ts";
import { commandHelp } from "./help.ts";
import { print } from "./output.ts";

/** The description of the command of a type. */
export function programSpec({ name, title, program }: DeviceType): CommandSpec {
  const required = program.options.filter(({ required }) => required === true)
    .map((option) => `--${usageOf(option)}`);
  const own = [...required, "[OPTION]…"].join(" ");
  const flags: FlagSpec[] = program.options.map((
    { required: _, ...option },
  ) => option);
  return {
    name,
    summary: `Serves one ${title} as a back-end program of QEMU`,
    usage: [
      `--socket-path=PATH ${own}`,
      `--fd=N ${own}`,
      "--print-capabilities",
      "--print-json [--binary=PATH]",
    ],
    flags: [
      { name: "socket-path", type: "path", help: "Unix socket to listen on" },
      {
        name: "fd",
        type: "integer",
        minimum: 3,
        maximum: 2 ** 31 - 1,
        help:
          "inherited descriptor of a Unix socket that listens or is connected",
      },
      ...flags,
      {
        name: "print-capabilities",
        type: "flag",
        help: "print what this program can do as JSON, and exit",
      },
      {
        name: "print-json",
        type: "flag",
        help: `print the contents of 50-vhostd-${name}.json, and exit`,
      },
      {
        name: "binary",
        type: "path",
        help: "absolute path of the program for --print-json",
      },
      ...LOG_OPTIONS,
    ],
    maximumArguments: 0,
    notes: [
      "To make QEMU's management software find this program:",
      `  vhostd ${name} --print-json > /etc/qemu/vhost-user/50-vhostd-${name}.json`,
    ],
  };
}

/** Runs the command of a type; returns the exit code. */
export async function runProgram(
  type: DeviceType,
  args: readonly string[],
): Promise<number> {
  const { name, program } = type;
  // Whatever else is given is ignored, also what is wrong.
  if (args.includes("--print-capabilities")) {
    const { type, features } = program;
    const capabilities = features === undefined ? { type } : { type, features };
    print(JSON.stringify(capabilities, null, 2));
    return 0;
  }
  const spec = programSpec(type);
  const { help, values } = parseCommand(spec, args);
  if (help) {
    print(commandHelp(spec));
    return 0;
  }
  if (values.printJson === true) {
    print(JSON.stringify(description(type, values.binary), null, 2));
    return 0;
  }
  requireRuntime();
  const { socketPath, fd } = values;
  if ((socketPath === undefined) === (fd === undefined)) {
    throw new HostError(
      "usage",
      socketPath === undefined
        ? `${name}: neither --socket-path=PATH nor --fd=N is given`
        : `${name}: --socket-path and --fd exclude each other`,
    );
  }
  for (const option of program.options) {
    if (option.required !== true || camelCase(option.name) in values) continue;
    throw new HostError("usage", `${name}: --${usageOf(option)} is missing`);
  }
  const pairs: [string, RawValue][] = [
    ...program.pairs(values),
    fd === undefined ? ["socket", socketPath!] : ["fd", fd],
  ];
  const devices = planDevices([{ subject: name, type, pairs }]);
  const { logLevel: level, logFormat: format } = settingsOf(values);
  const log = new Logger({ level, format });
  const { runDevices } = await import("./run_devices.ts");
  return await runDevices(devices, { management: null, log });
}

function camelCase(name: string): string {
  return name.replace(/-(.)/g, (_, letter) => letter.toUpperCase());
}

/** What management software reads to find this program. */
function description(
  { name, program }: DeviceType,
  binary: unknown,
): Record<string, unknown> {
  const path = binary === undefined ? wrapper(name) : String(binary);
  if (!isAbsolute(path)) {
    throw new HostError(
      "usage",
      `${name}: "binary=${path}" is no absolute path`,
    );
  }
  return {
    description: `vhostd vhost-user-${name}`,
    type: program.type,
    binary: path,
  };
}

/** The script that runs the command of a type. */
function wrapper(name: string): string {
  const url = new URL(`./vhostd-${name}`, import.meta.url);
  if (url.protocol === "file:") return fromFileUrl(url);
  throw new HostError(
    "usage",
    `${name}: --binary=PATH is missing: this program does not run from a file`,
  );
}
