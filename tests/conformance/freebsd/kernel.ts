/**
 * What a model of a FreeBSD driver needs of the kernel around it: assertions
 * that panic, error numbers, and the message buffer.
 *
 * @module
 */

/** Bytes of a page on amd64. */
export const PAGE_SIZE = 4096;

/** FreeBSD error numbers that the modelled functions use (`sys/errno.h`). */
export const FreeBsdErrno = {
  EIO: 5,
  ENXIO: 6,
  ENOMEM: 12,
  EBUSY: 16,
  ENODEV: 19,
  EINVAL: 22,
  ENOSPC: 28,
  EROFS: 30,
  EMSGSIZE: 40,
  EOPNOTSUPP: 45,
  ENOTSUP: 45,
} as const;

/**
 * A kernel with INVARIANTS would have panicked here: the device broke a rule
 * that the driver relies on.
 */
export class KernelPanic extends Error {
  /** What class of failure this is; stable. */
  readonly kind = "panic";

  /** @param message what `panic(9)` would print */
  constructor(message: string) {
    super(`panic: ${message}`);
    this.name = "KernelPanic";
  }
}

/**
 * `KASSERT(9)`.
 *
 * @throws {KernelPanic} when the condition does not hold
 */
export function kassert(condition: boolean, message: string): void {
  if (!condition) throw new KernelPanic(message);
}

/** The message buffer: what `dmesg(8)` shows after a boot with `-v`. */
export class MessageBuffer {
  /** Lines, oldest first. */
  readonly lines: string[] = [];

  /** `device_printf(9)`. */
  print(device: string, message: string): void {
    this.lines.push(`${device}: ${message}`);
  }

  /** Lines from `mark` on. */
  since(mark: number): string[] {
    return this.lines.slice(mark);
  }
}
