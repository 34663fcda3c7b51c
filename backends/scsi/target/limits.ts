/**
 * Limits that the block limits page tells.
 *
 * @module
 */

/**
 * Most bytes of a READ, WRITE, VERIFY or WRITE AND VERIFY: what one command may
 * keep all others of a process waiting for.
 */
export const MAX_TRANSFER_BYTES: number = 2 ** 26;
/**
 * Most bytes of a WRITE SAME or UNMAP that are worked on while all others wait:
 * where a range cannot be zeroed, zeroes are written.
 */
export const STEP_BYTES: number = 2 ** 25;
/** Most blocks of a COMPARE AND WRITE. */
export const MAX_COMPARE_BLOCKS = 255;
/** Most bytes of a WRITE SAME. */
export const MAX_WRITE_SAME_BYTES: number = 2 ** 31;
/** Most bytes of all descriptors of an UNMAP. */
export const MAX_UNMAP_BYTES: number = 2 ** 40;
/** Most descriptors of an UNMAP. */
export const MAX_UNMAP_DESCRIPTORS = 256;
