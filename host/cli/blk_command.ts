/**
 * `blk`: serves one disk by the conventions that QEMU and libvirt have for
 * back-end programs.
 *
 * Source: `docs/interop/vhost-user.rst` of QEMU, "Backend program conventions";
 * the JSON of `--print-capabilities` and `--print-json` is described in
 * `docs/interop/vhost-user.json`.
 *
 * @module
 */

import { fromFileUrl, isAbsolute } from "@std/path";
import { BLK } from "../device_types.ts";
import { HostError } from "../error.ts";
import { Logger } from "../log.ts";
import { planDevices } from "../options/device_specs.ts";
import type { RawValue } from "../options/parse.ts";
import { LOG_OPTIONS, settingsOf } from "../options/settings.ts";
import { requireRuntime } from "../requirements.ts";
import { type CommandSpec, parseCommand } from "./command.ts";
import { commandHelp } from "./help.ts";

/** The description of the command. */
export const BLK_COMMAND: CommandSpec = {
  name: "blk",
  summary: "Serves one disk as a back-end program of QEMU",
  usage: [
    "--socket-path=PATH --blk-file=IMG [--read-only] [OPTION]…",
    "--fd=N --blk-file=IMG [--read-only] [OPTION]…",
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
    {
      name: "blk-file",
      type: "path",
      value: "IMG",
      help: "raw image or block device to serve",
    },
    { name: "read-only", type: "flag", help: "refuse writes" },
    {
      name: "print-capabilities",
      type: "flag",
      help: "print what this program can do as JSON, and exit",
    },
    {
      name: "print-json",
      type: "flag",
      help: "print the contents of 50-vhostd-blk.json, and exit",
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
    "  vhostd blk --print-json > /etc/qemu/vhost-user/50-vhostd-blk.json",
  ],
};

/** What `--print-capabilities` prints. */
const CAPABILITIES = { type: "block", features: ["read-only", "blk-file"] };

/** Runs the command; returns the exit code. */
export async function blk(args: readonly string[]): Promise<number> {
  // Whatever else is given is ignored, also what is wrong.
  if (args.includes("--print-capabilities")) {
    console.log(JSON.stringify(CAPABILITIES, null, 2));
    return 0;
  }
  const { help, values } = parseCommand(BLK_COMMAND, args);
  if (help) {
    console.log(commandHelp(BLK_COMMAND));
    return 0;
  }
  if (values.printJson === true) {
    console.log(JSON.stringify(description(values.binary), null, 2));
    return 0;
  }
  requireRuntime();
  const { socketPath, fd, blkFile, readOnly } = values;
  if ((socketPath === undefined) === (fd === undefined)) {
    throw new HostError(
      "usage",
      socketPath === undefined
        ? "blk: neither --socket-path=PATH nor --fd=N is given"
        : "blk: --socket-path and --fd exclude each other",
    );
  }
  if (blkFile === undefined) {
    throw new HostError("usage", "blk: --blk-file=IMG is missing");
  }
  const pairs: [string, RawValue][] = [
    ["path", blkFile],
    ["readonly", readOnly === true],
    fd === undefined ? ["socket", socketPath!] : ["fd", fd],
  ];
  const devices = planDevices([{ subject: "blk", type: BLK, pairs }]);
  const { logLevel: level, logFormat: format } = settingsOf(values);
  const log = new Logger({ level, format });
  const { runDevices } = await import("./run_devices.ts");
  return await runDevices(devices, { management: null, log });
}

/** What management software reads to find this program. */
function description(binary: unknown): Record<string, unknown> {
  const path = binary === undefined ? wrapper() : String(binary);
  if (!isAbsolute(path)) {
    throw new HostError("usage", `blk: "binary=${path}" is no absolute path`);
  }
  return {
    description: "vhostd vhost-user-blk",
    type: CAPABILITIES.type,
    binary: path,
  };
}

/** The script that runs this command. */
function wrapper(): string {
  const url = new URL("./vhostd-blk", import.meta.url);
  if (url.protocol === "file:") return fromFileUrl(url);
  throw new HostError(
    "usage",
    "blk: --binary=PATH is missing: this program does not run from a file",
  );
}
