/**
 * Compares bytes at the speed of the C library: the code of the fuzzer is slow
 * while the coverage is counted.
 *
 * @module
 */

import { Buffer } from "node:buffer";

/** A view of bytes that {@linkcode equalBytes} takes. */
export function comparable(bytes: Uint8Array<ArrayBuffer>): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
}

/** Whether two views have the same bytes. */
export function equalBytes(one: Buffer, other: Buffer): boolean {
  return one.equals(other);
}
