/**
 * SCSI hosts for guests: the command that serves them, and QEMU's
 * arguments.
 *
 * @module
 */

import { ChildProcess, waitForListener } from "../support/process.ts";
import { COMMAND_ARGUMENTS } from "../support/vhostd.ts";

/**
 * Arguments of a SCSI host that a back-end serves on `socket`.
 *
 * @param options of the device, each with its comma: `,num_queues=2`
 * @param reconnect milliseconds between attempts to connect again; 0: none
 */
export function vhostUserScsi(
  socket: string,
  options = "",
  reconnect = 0,
): string[] {
  const again = reconnect > 0 ? `,reconnect-ms=${reconnect}` : "";
  return [
    "-chardev",
    `socket,id=scsi,path=${socket}${again}`,
    "-device",
    `vhost-user-scsi-pci,chardev=scsi${options}`,
  ];
}

/**
 * Runs `serve`, and waits until all sockets listen.
 *
 * @param management the management socket
 * @param args what to serve: `--scsi=…`, `--lun=…`
 */
export async function startServing(
  management: string,
  sockets: readonly string[],
  args: readonly string[],
): Promise<ChildProcess> {
  const child = ChildProcess.start(Deno.execPath(), {
    name: "vhostd",
    args: [
      ...COMMAND_ARGUMENTS,
      "serve",
      `--management=${management}`,
      ...args,
    ],
  });
  try {
    for (const socket of sockets) await waitForListener(socket, child);
    return child;
  } catch (error) {
    await child.stop();
    throw error;
  }
}
