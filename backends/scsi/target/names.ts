/**
 * Names that are made of other names: identifiers of eight bytes.
 *
 * @module
 */

const OFFSET = 0xcbf29ce484222325n;
const PRIME = 0x100000001b3n;
const MASK = 0xffff_ffff_ffff_ffffn;

/** A 64-bit hash of a text (FNV-1a), as bytes. */
export function hash64(text: string): Uint8Array<ArrayBuffer> {
  let state = OFFSET;
  for (const byte of new TextEncoder().encode(text)) {
    state = (state ^ BigInt(byte)) * PRIME & MASK;
  }
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, state);
  return bytes;
}

/** Bytes as hexadecimal digits. */
export function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0"))
    .join("");
}

/** The bytes of hexadecimal digits. */
export function unhex(digits: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(
    digits.match(/../g) ?? [],
    (pair) => parseInt(pair, 16),
  );
}
