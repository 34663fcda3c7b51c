/**
 * Opens an image and makes the engine that serves it.
 *
 * Theory of operation. Everything that can be wrong with an image is found out
 * here, before a guest sees a disk: that it exists, may be read and written, is
 * a file or block device, has no other format's mark, and has a size of whole
 * blocks. The answer is a {@linkcode StorageError} that says what would be right.
 *
 * The block size is the one asked for. Without one it is what the medium asks
 * for: a block device's logical block size; for a file 512, or with direct I/O
 * the unit that the file system needs.
 *
 * @module
 */

import { Errno, SystemError } from "../../sys/errno.ts";
import { DataFile } from "../../sys/file.ts";
import { IovecTable } from "../../sys/iovec.ts";
import { mapAnonymous } from "../../sys/mapping.ts";
import { StorageError } from "./error.ts";
import {
  FORMAT_HEAD_SIZE,
  FORMAT_TAIL_SIZE,
  recognizeFormat,
} from "./format.ts";
import type { Storage } from "./storage.ts";
import type { IoUring } from "../../sys/io_uring/io_uring.ts";
import { probeNowait } from "../../sys/nowait.ts";
import { sizeProblem } from "./size.ts";
import { SyncEngine, type SyncEngineOptions } from "./sync_engine.ts";
import { UringEngine } from "./uring_engine.ts";

/** Smallest logical block size. */
const MINIMUM_BLOCK = 512;
/** Largest unit that direct I/O is tried with. */
const MAXIMUM_BLOCK = 4096;

/** The engines there are: values of the option `engine`. */
export const ENGINES: readonly string[] = ["auto", "io_uring", "sync"];

/** What to open, and how. */
export interface StorageOptions {
  /** Path of a raw image or of a block device. */
  readonly path: string;
  /** Refuse writes (default false). */
  readonly readOnly?: boolean;
  /** Bypass the page cache (default false). */
  readonly direct?: boolean;
  /** One of {@linkcode ENGINES} (default `"auto"`: the best that works). */
  readonly engine?: string;
  /** Logical block size in bytes (default: what the medium asks for). */
  readonly blockSize?: number;
  /** `"raw"` serves the very bytes, also of other formats (default `"auto"`). */
  readonly format?: string;
  /** Serve the image although others use it (default false). */
  readonly share?: boolean;
}

/**
 * Opens an image.
 *
 * @param ring gives the io_uring of the loop; asked only when it would be used
 * @throws {StorageError} when it cannot be served
 *
 * @example Usage
 * ```ts ignore
 * import { openStorage } from "./open.ts";
 *
 * const storage = openStorage({ path: "disk.img", readOnly: true });
 * console.log(storage.capacity);
 * storage.close();
 * ```
 */
export function openStorage(
  options: StorageOptions,
  ring: () => IoUring | null = () => null,
): Storage {
  const { path, engine = "auto" } = options;
  if (!ENGINES.includes(engine)) {
    throw new StorageError(
      "system",
      path,
      `there is no engine "${engine}", but ${ENGINES.join(", ")}`,
    );
  }
  const file = openFile(options);
  try {
    const size = file.size();
    if (options.format !== "raw") refuseFormats(file, size);
    const blockSize = chooseBlockSize(file, options.blockSize);
    const problem = sizeProblem(file, size, blockSize);
    if (problem !== null) throw new StorageError("size", path, problem);
    return makeEngine(file, engine, ring, {
      blockSize,
      share: options.share ?? false,
    });
  } catch (error) {
    file.close();
    if (error instanceof SystemError) throw system(path, error);
    throw error;
  }
}

/**
 * Chooses the engine. A file that can be tried in neither direction without
 * waiting (tmpfs) gains nothing from a ring.
 */
function makeEngine(
  file: DataFile,
  engine: string,
  ring: () => IoUring | null,
  options: SyncEngineOptions,
): Storage {
  if (engine === "sync") return new SyncEngine(file, options);
  const nowait = engine === "io_uring"
    ? { read: true, write: true }
    : probeNowait(file);
  if (!nowait.read && !nowait.write) return new SyncEngine(file, options);
  const uring = ring();
  if (uring !== null) {
    return new UringEngine(file, uring, { ...options, nowait });
  }
  if (engine === "auto") return new SyncEngine(file, options);
  throw new StorageError(
    "system",
    file.path,
    "there is no io_uring here (missing in the kernel, or forbidden); use " +
      "engine=auto or engine=sync",
  );
}

/**
 * Refuses a block device that the host itself uses. It is asked, and not held:
 * another server may have to open the device before this one lets go of it.
 */
function refuseUsed(path: string): void {
  try {
    DataFile.open(path, { exclusive: true }).close();
  } catch (error) {
    if (!(error instanceof SystemError) || error.kind !== "EBUSY") return;
    throw new StorageError(
      "locked",
      path,
      "this host uses it (as a mounted file system, swap, or a part of another " +
        "device), and both would write it; share=on serves it all the same",
      { cause: error },
    );
  }
}

function openFile(options: StorageOptions): DataFile {
  const { path, readOnly = false, direct = false, share = false } = options;
  try {
    if (!readOnly && !share) refuseUsed(path);
    return DataFile.open(path, { readOnly, direct });
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
    throw explain(path, readOnly, direct, error);
  }
}

/** Says what is wrong when an image cannot be opened, and what would be right. */
function explain(
  path: string,
  readOnly: boolean,
  direct: boolean,
  cause: SystemError,
): StorageError {
  switch (cause.errno) {
    case Errno.ENOENT:
    case Errno.ENOTDIR:
      return new StorageError(
        "not-found",
        path,
        path.startsWith("/dev/")
          ? "there is no such device"
          : `there is no such file; make one with: truncate -s 1G "${path}"`,
        { cause },
      );
    case Errno.EACCES:
    case Errno.EPERM:
      return new StorageError(
        "permission",
        path,
        readOnly || !opens(path, true, direct)
          ? "this user may not read it"
          : "this user may not write it; use readonly=on, or change its mode",
        { cause },
      );
    case Errno.EROFS:
      return new StorageError(
        "permission",
        path,
        "it lies on a read-only file system; use readonly=on",
        { cause },
      );
    case Errno.EISDIR:
      return new StorageError(
        "not-a-disk",
        path,
        "it is a directory, not an image file or block device",
        { cause },
      );
    case Errno.ENXIO:
    case Errno.EINVAL:
      return direct && opens(path, readOnly, false)
        ? new StorageError(
          "direct",
          path,
          "its file system has no direct I/O; use direct=off",
          { cause },
        )
        : new StorageError(
          "not-a-disk",
          path,
          "it is neither a regular file nor a block device",
          { cause },
        );
    default:
      return system(path, cause);
  }
}

function opens(path: string, readOnly: boolean, direct: boolean): boolean {
  try {
    DataFile.open(path, { readOnly, direct }).close();
    return true;
  } catch (error) {
    if (error instanceof SystemError) return false;
    throw error;
  }
}

function system(path: string, cause: SystemError): StorageError {
  return new StorageError("system", path, cause.message, { cause });
}

function refuseFormats(file: DataFile, size: number): void {
  const head = new Uint8Array(FORMAT_HEAD_SIZE);
  const tail = new Uint8Array(FORMAT_TAIL_SIZE);
  const headSize = file.read(head, 0);
  const tailSize = file.read(tail, Math.max(size - FORMAT_TAIL_SIZE, 0));
  const format = recognizeFormat(
    file.path,
    head.subarray(0, headSize),
    tail.subarray(0, tailSize),
  );
  if (format === null) return;
  throw new StorageError(
    "format",
    file.path,
    `it is ${article(format.name)} ${format.name} image, and only raw images ` +
      `are served; convert it with: ${format.conversion} ` +
      "(or say format=raw to serve these very bytes)",
  );
}

function article(name: string): string {
  return /^[aeioux]/i.test(name) ? "an" : "a";
}

function chooseBlockSize(file: DataFile, asked: number | undefined): number {
  const least = file.direct ? directUnit(file) : MINIMUM_BLOCK;
  if (asked === undefined) {
    return file.kind === "block"
      ? Math.max(file.logicalBlockSize, least)
      : least;
  }
  if (asked < least) {
    throw new StorageError(
      "block-size",
      file.path,
      `direct I/O on it needs blocks of ${least} bytes, not ${asked}; ` +
        `use block-size=${least} or direct=off`,
    );
  }
  return asked;
}

/**
 * The smallest unit of direct I/O, found by reading: what the kernel tells can
 * be unknown, or smaller than what works.
 */
function directUnit(file: DataFile): number {
  using memory = mapAnonymous(MAXIMUM_BLOCK);
  using iovecs = new IovecTable(1, 1);
  const words = iovecs.words;
  words[0] = memory.address;
  words[1] = memory.address / 4294967296;
  const told = Math.max(file.logicalBlockSize, MINIMUM_BLOCK);
  for (let unit = told; unit <= MAXIMUM_BLOCK; unit *= 2) {
    words[2] = unit;
    if (file.readv(iovecs.address(0), 1, unit) !== -Errno.EINVAL) return unit;
  }
  throw new StorageError(
    "direct",
    file.path,
    `direct I/O on it needs blocks of more than ${MAXIMUM_BLOCK} bytes; ` +
      "use direct=off",
  );
}
