/**
 * What GEOM and `disk(9)` put between a file system and virtio_blk(4): the
 * limits of the disk, and I/O that is cut to fit them.
 *
 * Source: `sys/geom/geom_disk.c` and `sys/geom/geom_io.c`.
 *
 * @module
 */

import { FreeBsdErrno, kassert } from "../freebsd/kernel.ts";
import type { KernelBuffer } from "../freebsd/memory.ts";

/** `bio_cmd`. */
export type BioCommand = "read" | "write" | "delete" | "flush" | "zone";

/** What a `struct bio` is made of. */
export interface BioRequest {
  readonly command: BioCommand;
  /** `bio_offset` in bytes. */
  readonly offset?: number;
  /** `bio_bcount` in bytes. */
  readonly length?: number;
  /** `bio_data`. */
  readonly data?: KernelBuffer;
  /** First byte of the data in `bio_data`: parts of a larger request differ. */
  readonly dataOffset?: number;
  /** `BIO_ORDERED`. */
  readonly ordered?: boolean;
}

/** `struct bio`: one I/O. */
export class Bio {
  readonly command: BioCommand;
  readonly offset: number;
  readonly length: number;
  readonly data: KernelBuffer | null;
  readonly dataOffset: number;
  readonly ordered: boolean;
  /** `bio_error`; `null` until `biodone`. */
  error: number | null = null;

  /** An I/O that was not started. */
  constructor(request: BioRequest) {
    this.command = request.command;
    this.offset = request.offset ?? 0;
    this.length = request.length ?? request.data?.length ?? 0;
    this.data = request.data ?? null;
    this.dataOffset = request.dataOffset ?? 0;
    this.ordered = request.ordered ?? false;
  }

  /** `BIO_DONE`. */
  get done(): boolean {
    return this.error !== null;
  }

  /** `biodone`. */
  finish(error: number): void {
    kassert(this.error === null, "biodone: bio already done");
    this.error = error;
  }
}

/** `DISKFLAG_*`. */
export interface DiskFlags {
  canFlushCache: boolean;
  canDelete: boolean;
  writeProtect: boolean;
}

/** `struct disk`, and the provider `vtbd0` that GEOM makes of it. */
export class Disk {
  /** `d_mediasize` in bytes. */
  mediaSize = 0;
  /** `d_sectorsize` in bytes. */
  sectorSize = 0;
  /** `d_maxsize` in bytes. */
  maxSize = 0;
  /** `d_delmaxsize` in bytes. */
  deleteMaxSize = 0;
  /** `d_fwsectors`. */
  firmwareSectors = 0;
  /** `d_fwheads`. */
  firmwareHeads = 0;
  /** `d_stripesize` in bytes. */
  stripeSize = 0;
  /** `d_stripeoffset` in bytes. */
  stripeOffset = 0;
  /** `d_ident`, adjusted. */
  ident = "";
  /** `d_flags`. */
  readonly flags: DiskFlags = {
    canFlushCache: false,
    canDelete: false,
    writeProtect: false,
  };
  /** `d_dump` is set. */
  canDump = false;
  readonly #strategy: (bio: Bio) => void;

  /** @param strategy `d_strategy` */
  constructor(strategy: (bio: Bio) => void) {
    this.#strategy = strategy;
  }

  /** `g_disk_access`, for writing: 0 or an error number. */
  openForWriting(): number {
    return this.flags.writeProtect ? FreeBsdErrno.EROFS : 0;
  }

  /**
   * `g_io_check` and `g_disk_start`: hands the I/O to the driver, in parts of
   * at most `d_maxsize` or `d_delmaxsize`.
   *
   * @returns the parts; their last error is the I/O's
   */
  start(request: BioRequest): Bio[] {
    const whole = new Bio(request);
    const { command, offset, length } = whole;
    if (command === "flush") {
      if (!this.flags.canFlushCache) whole.finish(FreeBsdErrno.EOPNOTSUPP);
      else this.#strategy(whole);
      return [whole];
    }
    if (command === "delete" && !this.flags.canDelete) {
      whole.finish(FreeBsdErrno.EOPNOTSUPP);
      return [whole];
    }
    if (offset % this.sectorSize !== 0 || length % this.sectorSize !== 0) {
      whole.finish(FreeBsdErrno.EINVAL);
      return [whole];
    }
    if (offset + length > this.mediaSize) {
      whole.finish(FreeBsdErrno.EIO);
      return [whole];
    }
    const limit = command === "delete" ? this.deleteMaxSize : this.maxSize;
    // g_disk_limit with a limit of 0 never ends.
    kassert(limit > 0, `${command} can never make progress: its limit is 0`);
    const parts: Bio[] = [];
    for (let at = 0; at < length; at += limit) {
      const part = new Bio({
        ...request,
        offset: offset + at,
        length: Math.min(limit, length - at),
        dataOffset: whole.dataOffset + at,
      });
      kassert(
        part.offset % this.sectorSize === 0,
        `part of a ${command} begins inside of a sector`,
      );
      parts.push(part);
    }
    for (const part of parts) this.#strategy(part);
    return parts;
  }

  /** `g_disk_ident_adjust`: unprintable characters become `x<HH>`. */
  setIdent(bytes: Uint8Array): void {
    const end = bytes.indexOf(0);
    this.ident = [...bytes.subarray(0, end < 0 ? bytes.length : end)]
      .map((byte) =>
        byte >= 0x20 && byte < 0x7f
          ? String.fromCharCode(byte)
          : `x${byte.toString(16).padStart(2, "0")}`
      ).join("");
  }
}
