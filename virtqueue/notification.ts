/**
 * When a notification is wanted: arithmetic on ring indices, which are free
 * running and wrap at 2^16, and on positions in packed rings.
 *
 * @module
 */

import {
  RING_EVENT_FLAGS_DESC,
  RING_EVENT_FLAGS_DISABLE,
} from "./constants.ts";
import { decodePosition } from "./packed_ring.ts";

/**
 * Tells whether the step from index `previous` to index `next` passed the
 * entry `event`, after which the other side asked to be notified.
 *
 * Source: virtio 1.4, section 2.7.7.2 and 2.7.10 (`vring_need_event`).
 *
 * @param event `used_event` or `avail_event` as the other side wrote it
 * @param next index that was just published
 * @param previous index at the previous decision
 */
export function needEvent(
  event: number,
  next: number,
  previous: number,
): boolean {
  return ((next - event - 1) & 0xffff) < ((next - previous) & 0xffff);
}

/**
 * The same for a packed ring: tells whether the step from one position to another
 * passed the descriptor after which the other side asked to be notified.
 *
 * Source: virtio 1.4, section 2.8.10.
 *
 * @param event index and wrap counter (bit 15) as the other side wrote them; one
 * beyond the ring is always passed
 * @param next position that was just published
 * @param previous position at the previous decision
 * @param size of the ring
 */
export function needPackedEvent(
  event: number,
  next: number,
  previous: number,
  size: number,
): boolean {
  const at = decodePosition(event, size);
  if (at < 0) return true;
  const laps = 2 * size;
  const behind = next - at - 1, step = next - previous;
  return (behind < 0 ? behind + laps : behind) <
    (step < 0 ? step + laps : step);
}

/**
 * Whether the other side of a packed ring wants to hear of a step.
 *
 * Source: virtio 1.4, section 2.8.10.
 *
 * @param event its event suppression structure, as one number
 * @param eventIdx whether VIRTIO_F_EVENT_IDX was negotiated
 * @param next position that was just published
 * @param previous position at the previous decision
 * @param size of the ring
 */
export function wantsPacked(
  event: number,
  eventIdx: boolean,
  next: number,
  previous: number,
  size: number,
): boolean {
  const flags = (event >>> 16) & 3;
  return flags === RING_EVENT_FLAGS_DESC && eventIdx
    ? needPackedEvent(event & 0xffff, next, previous, size)
    : flags !== RING_EVENT_FLAGS_DISABLE;
}
