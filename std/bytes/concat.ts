/**
 * Joins byte arrays into a new one.
 *
 * @param buffers The arrays, in order.
 * @returns A new array of their total length.
 */
export function concat(
  buffers: readonly Uint8Array[],
): Uint8Array<ArrayBuffer> {
  const total = buffers.reduce((sum, { length }) => sum + length, 0);
  const joined = new Uint8Array(total);
  let at = 0;
  for (const buffer of buffers) {
    joined.set(buffer, at);
    at += buffer.length;
  }
  return joined;
}
