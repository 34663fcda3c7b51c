/**
 * Big-endian fields, as SCSI has them.
 *
 * Numbers are Numbers: a 64-bit field above 2^53 rounds to a number that is
 * larger than any capacity, too.
 *
 * @module
 */

const TWO_32 = 4294967296;

/** Reads two bytes. */
export function u16(bytes: Uint8Array, at: number): number {
  return bytes[at] << 8 | bytes[at + 1];
}

/** Reads three bytes. */
export function u24(bytes: Uint8Array, at: number): number {
  return bytes[at] << 16 | bytes[at + 1] << 8 | bytes[at + 2];
}

/** Reads four bytes. */
export function u32(bytes: Uint8Array, at: number): number {
  return (bytes[at] << 24 | bytes[at + 1] << 16 | bytes[at + 2] << 8 |
    bytes[at + 3]) >>> 0;
}

/** Reads eight bytes. */
export function u64(bytes: Uint8Array, at: number): number {
  return u32(bytes, at) * TWO_32 + u32(bytes, at + 4);
}

/** Writes two bytes. */
export function putU16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 8;
  bytes[at + 1] = value;
}

/** Writes three bytes. */
export function putU24(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 16;
  putU16(bytes, at + 1, value);
}

/** Writes four bytes; of larger values the lower 32 bits. */
export function putU32(bytes: Uint8Array, at: number, value: number): void {
  putU16(bytes, at, value >>> 16);
  putU16(bytes, at + 2, value);
}

/** Writes eight bytes. */
export function putU64(bytes: Uint8Array, at: number, value: number): void {
  putU32(bytes, at, Math.floor(value / TWO_32));
  putU32(bytes, at + 4, value % TWO_32);
}

/** Writes ASCII text, filled up with spaces to `width`. */
export function putText(
  bytes: Uint8Array,
  at: number,
  width: number,
  text: string,
): void {
  for (let i = 0; i < width; i++) {
    bytes[at + i] = i < text.length ? text.charCodeAt(i) : 0x20;
  }
}

/** Bytes one after the other. */
export function join(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(parts.reduce((sum, p) => sum + p.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}
