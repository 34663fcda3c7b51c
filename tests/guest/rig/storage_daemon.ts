/**
 * qemu-storage-daemon as a peer: a vhost-user-blk back-end that others
 * wrote. The rig proves itself against it, and comparisons use it.
 *
 * @module
 */

import { ChildProcess, waitForListener } from "../../support/process.ts";
import type { RigOptions } from "./cache.ts";
import { findQemu } from "./qemu.ts";

/** What the daemon serves. */
export interface StorageDaemonOptions extends RigOptions {
  /** The raw image. */
  image: string;
  /** The socket it listens on. */
  socket: string;
  /** How many queues (1). */
  queues?: number;
  /** Refuse writes. */
  readonly?: boolean;
}

/**
 * Starts qemu-storage-daemon and waits until it listens.
 *
 * @throws {ProcessError} when it ends first, with what it said
 */
export async function startStorageDaemon(
  options: StorageDaemonOptions,
): Promise<ChildProcess> {
  const { image, socket, queues = 1, readonly = false } = options;
  const name = "qemu-storage-daemon";
  const daemon = (await findQemu(options)).program(name);
  const access = readonly ? "read-only=on" : "read-only=off";
  const child = ChildProcess.start(daemon.command, {
    name,
    env: daemon.env,
    args: [
      ...daemon.args,
      "--blockdev",
      `driver=file,node-name=file,filename=${image.replaceAll(",", ",,")},` +
      `discard=unmap,${access}`,
      "--blockdev",
      `driver=raw,node-name=disk,file=file,discard=unmap,${access}`,
      "--export",
      "type=vhost-user-blk,id=disk,node-name=disk,addr.type=unix," +
      `addr.path=${socket.replaceAll(",", ",,")},` +
      `writable=${readonly ? "off" : "on"},num-queues=${queues}`,
    ],
  });
  try {
    await waitForListener(socket, child);
    return child;
  } catch (error) {
    await child.stop();
    throw error;
  }
}
