/**
 * Files whose pages can be given back, in memory: every hole is noted.
 *
 * @module
 */

import type { PageHost } from "../page_host.ts";

/** A hole that was punched. */
export interface Hole {
  readonly fd: number;
  readonly offset: number;
  readonly length: number;
}

/** A {@linkcode PageHost} over arrays. */
export class FakePages implements PageHost {
  /** All holes so far. */
  readonly holes: Hole[] = [];
  /** Contents of the files; a file that is not here has none. */
  readonly files = new Map<number, Uint8Array>();
  /** Why a file is none, by descriptor. */
  readonly objections = new Map<number, string>();
  /** Error number of every hole from now on; 0: they succeed. */
  errno = 0;

  punchHole(fd: number, offset: number, length: number): number {
    if (this.errno !== 0) return -this.errno;
    if (offset < 0 || length <= 0) {
      throw new RangeError(`There is no hole of ${length} bytes at ${offset}`);
    }
    this.holes.push({ fd, offset, length });
    this.files.get(fd)?.fill(0, offset, offset + length);
    return 0;
  }

  objection(fd: number): string | null {
    return this.objections.get(fd) ?? null;
  }

  /** The holes since the last call, as `[offset, length]` in pages of 4 KiB. */
  takePages(): [number, number][] {
    return this.holes.splice(0).map((
      { offset, length },
    ) => [offset / 4096, length / 4096]);
  }
}
