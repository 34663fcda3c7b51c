/**
 * Memory ordering between the device (us) and the driver (another CPU): every
 * access whose order matters goes through one of these functions.
 *
 * Theory of operation. Three orders are needed.
 *
 * 1. Available index before available entries and descriptors (acquire): the
 *    driver writes descriptors, entry, index; we read them in the opposite
 *    order. x86-64 never reorders two loads or two stores; what is left is to
 *    keep the compiler from it, and `Atomics.load` does.
 * 2. Used elements before the used index (release): the mirror image.
 * 3. Store before a later load of another location (StoreLoad), the one order
 *    that x86-64 does not keep. It decides whether a notification gets lost:
 *
 *    ```text
 *    device                        driver
 *    avail_event := position       avail_idx := n + 1
 *    fence                         fence
 *    read avail_idx                read avail_event
 *    ```
 *
 *    Without the fences both reads may see the old values: the device sleeps
 *    and the driver does not kick. With them at least one side sees the other's
 *    store. The same holds, sides swapped, for `used_idx` and `used_event`, and
 *    for the `flags` fields when VIRTIO_F_EVENT_IDX is not negotiated.
 *
 * `Atomics.store` on an integer typed array is sequentially consistent: on
 * x86-64 it is compiled to an exchange, which is a full fence, on shared and
 * non-shared buffers alike. So {@linkcode storeFence} orders everything before
 * it (2) and lets nothing after it be read early (3).
 *
 * Source: virtio 1.4, sections 2.7.7.1 and 2.7.13.
 *
 * @module
 */

/** Reads a 16-bit ring field; later reads see what was written before it. */
export function loadAcquire(window: Uint16Array, index: number): number {
  return Atomics.load(window, index);
}

/**
 * Writes a 16-bit ring field after all earlier writes, and before all later
 * reads (a full fence).
 */
export function storeFence(
  window: Uint16Array,
  index: number,
  value: number,
): void {
  Atomics.store(window, index, value);
}

/**
 * Writes an event suppression structure of a packed ring, as one number: after
 * all earlier writes, and before all later reads (a full fence).
 */
export function storeEvent(window: Uint32Array, value: number): void {
  Atomics.store(window, 0, value);
}
