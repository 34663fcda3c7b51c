/**
 * Images and the arguments of disks for guests.
 *
 * @module
 */

/** A sparse image of `size` bytes that starts with `random` random ones; these. */
export function makeImage(
  path: string,
  size: number,
  random = 0,
): Uint8Array<ArrayBuffer> {
  const content = new Uint8Array(random);
  for (let at = 0; at < random; at += 65_536) {
    crypto.getRandomValues(content.subarray(at, at + 65_536));
  }
  Deno.writeFileSync(path, content);
  Deno.truncateSync(path, size);
  return content;
}

/** `length` bytes of a file from `offset` on. */
export function readImage(
  path: string,
  offset: number,
  length: number,
): Uint8Array<ArrayBuffer> {
  using file = Deno.openSync(path);
  file.seekSync(offset, Deno.SeekMode.Start);
  const bytes = new Uint8Array(length);
  for (let done = 0; done < length;) {
    const read = file.readSync(bytes.subarray(done));
    if (read === null) throw new Error(`"${path}" ends at ${offset + done}`);
    done += read;
  }
  return bytes;
}

/** Bytes that the file system has allocated for a file. */
export function allocated(path: string): number {
  return (Deno.statSync(path).blocks ?? 0) * 512;
}

/**
 * Arguments of a disk that a vhost-user-blk back-end serves on `socket`.
 *
 * @param options of the device, each with its comma: `,num-queues=2`
 * @param reconnect milliseconds between attempts to connect again; 0: none
 */
export function vhostUserBlk(
  socket: string,
  options = "",
  reconnect = 0,
): string[] {
  const again = reconnect > 0 ? `,reconnect-ms=${reconnect}` : "";
  return [
    "-chardev",
    `socket,id=disk,path=${socket}${again}`,
    "-device",
    `vhost-user-blk-pci,chardev=disk${options}`,
  ];
}
