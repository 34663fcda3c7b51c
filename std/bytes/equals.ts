/**
 * Whether two byte arrays have the same length and bytes.
 *
 * @param a One array.
 * @param b The other.
 */
export function equals(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) {
    if (a[i] !== b[i]) return false;
  }
  return true;
}
