/**
 * Memory maps as ArrayBuffers.
 *
 * Theory of operation: a {@linkcode Mapping} is made by one thread, which also
 * ends it. Other threads make ArrayBuffers of their own over its address with
 * {@linkcode viewMemory} and must give them back with {@linkcode detachMemory}
 * BEFORE the mapping ends: touching memory that is no longer mapped kills the
 * process. `unmap` detaches the mapping's own buffer first, so that its later
 * use is a TypeError. Touching a page of a file that has been truncated kills
 * the process too (SIGBUS); see `memfd.ts` for seals.
 *
 * @module
 */

import { check, Errno, errno, SystemError, systemError } from "./errno.ts";
import { libc, pointerTo } from "./libc.ts";
import { readTextFile } from "./proc.ts";
import { FileType, statFd } from "./statx.ts";

const PROT_READ = 1;
const PROT_WRITE = 2;
const MAP_SHARED = 1;
const MAP_PRIVATE = 2;
const MAP_ANONYMOUS = 0x20;
const MAP_FAILED = 0xffff_ffff_ffff_ffffn;
const HUGETLBFS_MAGIC = 0x958458f6;
const PAGE_SIZE = 4096;

/** Options of {@linkcode mapFile}. */
export interface MapFileOptions {
  /** First byte of the file to map; any number, default 0. */
  offset?: number;
  /** Bytes to map, more than 0. */
  size: number;
  /**
   * Whether the memory can be written to. Default true. Writing to the buffer
   * of a read-only mapping kills the process.
   */
  writable?: boolean;
}

/** Options of {@linkcode mapAnonymous}. */
export interface MapAnonymousOptions {
  /** Children that fork share the memory. Default false. */
  shared?: boolean;
}

/**
 * What the kernel can be told of memory: `huge-pages` asks for fewer and larger
 * pages where there are some (of memfds only where
 * /sys/kernel/mm/transparent_hugepage/shmem_enabled is `advise` or more),
 * `no-dump` leaves the memory out of core dumps.
 */
export type MemoryAdvice = "huge-pages" | "no-dump";

/** `MADV_HUGEPAGE` and `MADV_DONTDUMP`. */
const ADVICE: Readonly<Record<MemoryAdvice, number>> = {
  "huge-pages": 14,
  "no-dump": 16,
};

/** A part of the address space, as one ArrayBuffer. */
export class Mapping implements Disposable {
  /** Address of the first byte. */
  readonly address: number;
  /** Size in bytes. */
  readonly size: number;
  /** The memory; detached by `unmap`. */
  readonly buffer: ArrayBuffer;
  readonly #base: number;
  readonly #span: number;
  #mapped = true;

  /**
   * Takes over what `mmap` returned: `span` bytes from `base`, of which `size`
   * bytes from `address` are meant.
   */
  constructor(base: number, span: number, address: number, size: number) {
    this.#base = base;
    this.#span = span;
    this.address = address;
    this.size = size;
    try {
      this.buffer = viewMemory(address, size);
    } catch (error) {
      libc().munmap(BigInt(base), BigInt(span));
      throw error;
    }
  }

  /** Whether the memory is still mapped. */
  get mapped(): boolean {
    return this.#mapped;
  }

  /**
   * Tells the kernel how this memory is used.
   *
   * C: `int madvise(void *addr, size_t length, int advice);`
   *
   * @returns false where the kernel was built without it, or the memory is of a
   * kind that it does not apply to: nothing is worse than before then
   */
  advise(advice: MemoryAdvice): boolean {
    return libc().madvise(
      BigInt(this.#base),
      BigInt(this.#span),
      ADVICE[advice],
    ) === 0;
  }

  /**
   * Detaches the buffer, then unmaps the memory; does nothing the second time.
   *
   * C: `int munmap(void *addr, size_t length);`
   */
  unmap(): void {
    if (!this.#mapped) return;
    this.#mapped = false;
    detachMemory(this.buffer);
    check(
      libc().munmap(BigInt(this.#base), BigInt(this.#span)),
      "munmap",
    );
  }

  /** As `unmap`. */
  [Symbol.dispose](): void {
    this.unmap();
  }
}

/**
 * C: `void *mmap(void *addr, size_t length, int prot, int flags, int fd, off_t
 * offset);`
 */
function mmap(
  span: number,
  prot: number,
  flags: number,
  fd: number,
  offset: number,
  what?: string,
): number {
  const address = libc().mmap(
    0n,
    BigInt(span),
    prot,
    flags,
    fd,
    BigInt(offset),
  );
  if (address === MAP_FAILED) throw systemError(errno(), "mmap", what);
  return Number(address);
}

function checkRange(name: string, value: number, least: number): void {
  if (Number.isSafeInteger(value) && value >= least) return;
  throw new SystemError(
    Errno.EINVAL,
    "mmap",
    `Cannot map memory: ${name} ${value} is not an integer ` +
      `from ${least} to 2^53-1`,
  );
}

/**
 * Maps a part of a file, a memfd or a device, shared with all who map it.
 *
 * C: `void *mmap(void *addr, size_t length, int prot, int flags, int fd,
 * off_t offset);`
 *
 * @throws {SystemError} kind `EINVAL` for an impossible range, `ERANGE` for one
 * that ends beyond the end of a regular file or memfd; others from `mmap`
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { createMemfd } from "./memfd.ts";
 *
 * using memfd = createMemfd("example", 8192);
 * using whole = mapFile(memfd.fd, { size: 8192 });
 * using part = mapFile(memfd.fd, { offset: 100, size: 1000 });
 * new Uint8Array(whole.buffer)[100] = 42;
 * assertEquals(new Uint8Array(part.buffer)[0], 42);
 * ```
 */
export function mapFile(fd: number, options: MapFileOptions): Mapping {
  const { offset = 0, size, writable = true } = options;
  checkRange("offset", offset, 0);
  checkRange("size", size, 1);
  checkRange("end", offset + size, 1);
  const metadata = statFd(fd);
  if (metadata.type === FileType.REGULAR && offset + size > metadata.size) {
    throw new SystemError(
      Errno.ERANGE,
      "mmap",
      `Cannot map ${size} bytes at offset ${offset} of fd ${fd}: ` +
        `the file has ${metadata.size} bytes`,
    );
  }
  const page = pageSizeOf(fd);
  const start = offset - offset % page;
  const span = Math.ceil((offset + size - start) / page) * page;
  const prot = writable ? PROT_READ | PROT_WRITE : PROT_READ;
  const base = mmap(span, prot, MAP_SHARED, fd, start, `fd ${fd}`);
  return new Mapping(base, span, base + (offset - start), size);
}

/**
 * Maps zero-filled memory that belongs to no file.
 *
 * C: as {@linkcode mapFile}, with `MAP_ANONYMOUS`.
 */
export function mapAnonymous(
  size: number,
  options: MapAnonymousOptions = {},
): Mapping {
  checkRange("size", size, 1);
  const span = Math.ceil(size / PAGE_SIZE) * PAGE_SIZE;
  const flags = MAP_ANONYMOUS | (options.shared ? MAP_SHARED : MAP_PRIVATE);
  const base = mmap(span, PROT_READ | PROT_WRITE, flags, -1, 0);
  return new Mapping(base, span, base, size);
}

/**
 * An ArrayBuffer over memory that another thread of this process has mapped.
 * The memory must stay mapped until {@linkcode detachMemory}.
 */
export function viewMemory(address: number, size: number): ArrayBuffer {
  return Deno.UnsafePointerView.getArrayBuffer(pointerTo(address), size);
}

/**
 * Cuts a buffer off from its memory: its length becomes 0, and so does that of
 * every view of it. Does nothing the second time.
 */
export function detachMemory(buffer: ArrayBuffer): void {
  if (!buffer.detached) buffer.transfer(0);
}

/**
 * How many mappings this process has, from /proc/self/maps. For leak tests:
 * the runtime maps and unmaps memory of its own, so compare with a tolerance
 * or look for a name with {@linkcode mappingsOf}.
 *
 * C: as {@linkcode readTextFile}.
 */
export function mappingCount(): number {
  return readTextFile("/proc/self/maps").split("\n").length - 1;
}

/**
 * How many mappings of this process have `name` in their line.
 *
 * C: as {@linkcode readTextFile}.
 */
export function mappingsOf(name: string): number {
  const lines = readTextFile("/proc/self/maps").split("\n");
  return lines.filter((line) => line.includes(name)).length;
}

/**
 * The size of the pages that back a file, in bytes: that of its huge pages on
 * hugetlbfs, else 4096.
 *
 * C: `int fstatfs(int fd, struct statfs *buf);`
 */
export function pageSizeOf(fd: number): number {
  const buffer = new Uint8Array(120);
  check(libc().fstatfs(fd, buffer), "fstatfs", `fd ${fd}`);
  const view = new DataView(buffer.buffer);
  if (view.getUint32(0, true) !== HUGETLBFS_MAGIC) return PAGE_SIZE;
  return Number(view.getBigInt64(8, true));
}
