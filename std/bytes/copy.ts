/**
 * Copies as many bytes as fit.
 *
 * @param src Where to copy from.
 * @param dst Where to copy to.
 * @param offset Index of the first byte to write in `dst`, moved to its
 * nearest end when outside.
 * @returns The number of bytes copied.
 */
export function copy(src: Uint8Array, dst: Uint8Array, offset = 0): number {
  const start = Math.min(Math.max(offset, 0), dst.length);
  const fitting = src.subarray(0, dst.length - start);
  dst.set(fitting, start);
  return fitting.length;
}
