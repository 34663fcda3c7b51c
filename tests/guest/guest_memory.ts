/**
 * The memory of a running guest, seen from the host: where pages lie whose
 * content is known.
 *
 * Theory of operation: a process of the guest has one large buffer, which a
 * disk fills, or is filled from, by direct I/O: nobody but the device copies
 * between the buffer and the image. The process then waits with its buffer, and
 * the pages of the image are looked up in the files that QEMU shares. Where they
 * are found, the device has found guest addresses.
 *
 * @module
 */

import { findExtent } from "../../backends/storage/extent.ts";
import { DataFile } from "../../sys/file.ts";
import { waitUntil } from "../support/deadline.ts";
import type { BusyGuest } from "./busy_guest.ts";
import { readImage } from "./disks.ts";
import type { LinuxGuest } from "./rig/linux_guest.ts";
import type { Qemu } from "./rig/qemu.ts";

/** Bytes of a page. */
export const PAGE = 4096;

/** A file with memory of a guest. */
export interface MemoryFile {
  /** Opens it, while QEMU runs. */
  readonly path: string;
  /** Its bytes; most of them may be holes. */
  readonly size: number;
}

/** The files with memory of a guest, those of DIMMs too. */
export function memoryFiles(qemu: Qemu): MemoryFile[] {
  const directory = `/proc/${qemu.pid}/fd`;
  return Array.from(Deno.readDirSync(directory), ({ name }) => name)
    .map((name) => `${directory}/${name}`)
    .filter((path) => linkOf(path).startsWith("/memfd:memory-backend-memfd"))
    .map((path) => ({ path, size: Deno.statSync(path).size }));
}

/** Space that a file with memory takes on the host, in bytes. */
export function spaceOf({ path }: MemoryFile): number {
  return Deno.statSync(path).blocks! * 512;
}

function linkOf(path: string): string {
  try {
    return Deno.readLinkSync(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return ""; // closed meanwhile
    throw error;
  }
}

/** Pages that all differ, to be looked up in memory. */
export class KnownPages {
  readonly #content: Uint8Array<ArrayBuffer>;
  readonly #places = new Map<bigint, number>();

  /** @param parts of whole pages */
  constructor(...parts: readonly Uint8Array[]) {
    const size = parts.reduce((sum, { length }) => sum + length, 0);
    this.#content = new Uint8Array(size);
    let at = 0;
    for (const part of parts) {
      this.#content.set(part, at);
      at += part.length;
    }
    const words = new BigUint64Array(this.#content.buffer);
    for (let page = 0; page < size / PAGE; page++) {
      this.#places.set(words[page * PAGE / 8], page);
    }
  }

  /** How many there are. */
  get count(): number {
    return this.#places.size;
  }

  /**
   * Which of them are in a file, to the last byte. What processes leave behind
   * may have some a second time.
   *
   * @param from where the search begins and, with `to`, ends; whole pages
   */
  findIn(file: MemoryFile, from = 0, to = file.size): Set<number> {
    using extents = DataFile.open(file.path, { readOnly: true });
    using reader = Deno.openSync(file.path);
    const piece = new Uint8Array(256 * PAGE);
    const found = new Set<number>();
    for (let at = from; at < to;) {
      const { length, mapped } = findExtent(extents, at, to);
      const end = at + length;
      if (!mapped) at = end;
      while (at < end) {
        reader.seekSync(at, Deno.SeekMode.Start);
        const got = reader.readSync(
          piece.subarray(0, Math.min(end - at, piece.length)),
        ) ?? 0;
        if (got === 0 || got % PAGE !== 0) {
          throw new Error(`"${file.path}" gives ${got} bytes at ${at}`);
        }
        this.#match(piece.subarray(0, got), found);
        at += got;
      }
    }
    return found;
  }

  #match(piece: Uint8Array<ArrayBuffer>, found: Set<number>): void {
    const words = new BigUint64Array(piece.buffer, 0, piece.length / 8);
    for (let at = 0; at < piece.length; at += PAGE) {
      const page = this.#places.get(words[at / 8]);
      if (page === undefined || found.has(page)) continue;
      const theirs = new BigUint64Array(piece.buffer, at, PAGE / 8);
      const ours = new BigUint64Array(
        this.#content.buffer,
        page * PAGE,
        PAGE / 8,
      );
      if (theirs.every((word, i) => word === ours[i])) found.add(page);
    }
  }
}

const MIB = 1 << 20;

/**
 * Has a guest's disk fill one buffer and be filled from another one, and has
 * their processes wait until {@linkcode releaseBuffers}.
 *
 * @param read bytes of the first: what the disk begins with, whole MiB
 * @param write bytes of the second, for what is behind that on the disk; whole
 * MiB, and a divisor of `read`
 * @returns the pages that are in the buffers
 */
export async function holdBuffers(
  { guest, image }: BusyGuest,
  read: number,
  write: number,
): Promise<KnownPages> {
  const before = pageEnds();
  await guest.check("rm -f /tmp/go* /tmp/read; mkfifo /tmp/go1 /tmp/go2");
  await guest.check(
    `(dd if=/dev/vda bs=${read / MIB}M count=1 iflag=direct 2>/dev/null | ` +
      "{ dd of=/tmp/read bs=1 count=1 2>/dev/null; cat /tmp/go1; }) " +
      ">/dev/null 2>&1 &",
  );
  // It waits for a second block, which does not come.
  await guest.check(
    `({ dd if=/dev/urandom bs=64k count=${write / 65_536} 2>/dev/null; ` +
      `cat /tmp/go2; } | dd of=/dev/vda bs=${write / MIB}M count=2 ` +
      `seek=${read / write} iflag=fullblock oflag=direct conv=notrunc ` +
      "2>/dev/null) >/dev/null 2>&1 &",
  );
  await guest.check(
    "i=0; while [ ! -s /tmp/read ] && [ $i -lt 300 ]; do sleep 0.1; " +
      "i=$((i+1)); done; [ -s /tmp/read ]",
    60_000,
  );
  await waitUntil(() => pageEnds().every((word, i) => word !== before[i]), {
    what: "the guest to write its buffer",
    timeout: 30_000,
    interval: 50,
  });
  return new KnownPages(
    readImage(image, 0, read),
    readImage(image, read, write),
  );

  /** The last word of each page that is written: parts come in any order. */
  function pageEnds(): BigUint64Array {
    const words = new BigUint64Array(readImage(image, read, write).buffer);
    return words.filter((_, i) => (i + 1) % (PAGE / 8) === 0);
  }
}

/** Lets the processes of {@linkcode holdBuffers} end. */
export async function releaseBuffers(guest: LinuxGuest): Promise<void> {
  await guest.check(": > /tmp/go1; : > /tmp/go2");
}
