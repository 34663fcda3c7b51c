/**
 * When a notification is wanted: arithmetic on ring indices, which are free
 * running and wrap at 2^16.
 *
 * @module
 */

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
