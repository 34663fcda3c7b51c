/**
 * What the storage is doing for a command.
 *
 * @module
 */

/** A read. */
export const PHASE_READ = 1;
/** A write. */
export const PHASE_WRITE = 2;
/** A flush that makes a write durable. */
export const PHASE_SYNC = 3;
/** A flush before a read that must come from the medium. */
export const PHASE_SYNC_BEFORE_READ = 4;
/** An operation of a script. */
export const PHASE_SCRIPT = 5;
