/**
 * The back-ends that are compared: ours and its peers, each pinned to a CPU.
 *
 * @module
 */

import type { Manner } from "./clients.ts";
import { IoUring } from "../../sys/io_uring/io_uring.ts";
import { ChildProcess, waitForListener } from "../support/process.ts";
import { COMMAND_ARGUMENTS } from "../support/vhostd.ts";
import { findQemu } from "../guest/rig/qemu.ts";

/** CPU of the back-end, and of the client. */
export const BACKEND_CPU = 0, CLIENT_CPU = 1;

/** What a back-end serves. */
export interface Disk {
  /** What the bytes are kept on. */
  readonly medium: Medium;
  /** The image. */
  readonly image: string;
  /** Its size in bytes. */
  readonly size: number;
  /** The socket. */
  readonly socket: string;
  /** What a driver sees (default virtio-blk). */
  readonly device?: "blk" | "scsi";
}

/**
 * A file in the page cache, one in a tmpfs, one past the page cache, a disk in
 * memory (for a peer that has none: a file in a tmpfs), nothing.
 */
export type Medium = "cache" | "tmpfs" | "direct" | "memory" | "null";

/** A back-end that can be measured. */
export interface Backend {
  /** Its name in tables. */
  readonly name: string;
  /** Starts it; it listens when the promise resolves. */
  start(disk: Disk): Promise<ChildProcess>;
  /** How the client speaks to it. */
  readonly manner?: Manner;
  /** What a driver sees (default virtio-blk). */
  readonly device?: Disk["device"];
  /** It never sleeps: it is stopped while it is not measured. */
  readonly spins?: boolean;
}

/** Arguments that pin a command to a CPU. */
export function pinned(cpu: number, command: string): [string, string[]] {
  return ["taskset", ["-c", String(cpu), command]];
}

/**
 * Starts a back-end on its CPU; it listens when the promise resolves.
 *
 * @param words the command and its arguments
 * @throws {ProcessError} when it ends first, with what it said
 */
export async function startBackend(
  name: string,
  socket: string,
  words: readonly string[],
  env: Record<string, string> = {},
): Promise<ChildProcess> {
  const [command, ...rest] = words;
  const [program, prefix] = pinned(BACKEND_CPU, command);
  const args = [...prefix, ...rest];
  const child = ChildProcess.start(program, { name, args, env });
  try {
    await waitForListener(socket, child);
    return child;
  } catch (error) {
    await child.stop();
    throw error;
  }
}

/** What makes `serve` serve a disk; `keys` are more keys of `--blk`. */
function serveBlk(
  { medium, image, size, socket }: Disk,
  keys: string,
): string[] {
  const direct = medium === "direct" ? "on" : "off";
  const options = [
    medium === "memory" || medium === "null"
      ? `storage=${medium},size=${size}`
      : `path=${image},share,direct=${direct}`,
    `socket=${socket}`,
    ...(keys === "" ? [] : [keys]),
  ];
  return [
    "serve",
    "--management=off",
    "--log-level=error",
    `--blk=${options.join(",")}`,
  ];
}

/** vhostd; `keys` go to `--blk`. */
export function vhostd(name = "vhostd", keys = ""): Backend {
  return {
    name,
    start: (disk) =>
      startBackend(name, disk.socket, [
        Deno.execPath(),
        ...COMMAND_ARGUMENTS,
        ...serveBlk(disk, keys),
      ]),
  };
}

/**
 * vhostd in one process, which has V8 write to its stdout; `flags` are options
 * of V8, `keys` go to `--blk`.
 */
export function tracedVhostd(flags: readonly string[], keys = ""): Backend {
  const [run, ...rest] = COMMAND_ARGUMENTS;
  return {
    name: "vhostd",
    start: (disk) =>
      startBackend("vhostd", disk.socket, [
        Deno.execPath(),
        ...[run, `--v8-flags=${flags.join(",")}`, ...rest],
        ...serveBlk(disk, keys),
        "--supervise=off",
      ]),
  };
}

/** vhostd with a SCSI host; `keys` go to `--scsi`. */
export function vhostdScsi(name = "vhostd scsi", keys = ""): Backend {
  return {
    name,
    device: "scsi",
    start: ({ medium, image, socket }) => {
      const options = [
        `path=${image},share,direct=${medium === "direct" ? "on" : "off"}`,
        `socket=${socket}`,
        ...(keys === "" ? [] : [keys]),
      ];
      return startBackend(name, socket, [
        Deno.execPath(),
        ...COMMAND_ARGUMENTS,
        "serve",
        "--management=off",
        "--log-level=error",
        `--scsi=${options.join(",")}`,
      ]);
    },
  };
}

/** How the daemon does I/O: with threads where the kernel has no io_uring. */
export const DAEMON_AIO: string = IoUring.supported() ? "io_uring" : "threads";

/** qemu-storage-daemon with {@linkcode DAEMON_AIO}. */
export function storageDaemon(name: string, iothread: boolean): Backend {
  return {
    name,
    start: async ({ medium, image, size, socket }) => {
      const direct = medium === "direct" ? "on" : "off";
      const { command, args, env } = (await findQemu())
        .program("qemu-storage-daemon");
      return await startBackend(name, socket, [
        command,
        ...args,
        ...(iothread ? ["--object", "iothread,id=io"] : []),
        "--blockdev",
        medium === "null"
          ? `driver=null-co,node-name=file,size=${size},read-zeroes=off`
          : `driver=file,node-name=file,filename=${image},aio=${DAEMON_AIO},` +
            `cache.direct=${direct},discard=unmap,locking=off`,
        "--blockdev",
        "driver=raw,node-name=disk,file=file,discard=unmap",
        "--export",
        "type=vhost-user-blk,id=disk,node-name=disk,addr.type=unix," +
        `addr.path=${socket},writable=on,num-queues=1` +
        (iothread ? ",iothread=io" : ""),
      ], env);
    },
  };
}
