/**
 * Starting and stopping of rings.
 *
 * Theory of operation: handlers change what the front-end may change, then ask
 * for {@linkcode startRings}; it starts every ring that is configured, is not
 * running and whose parts lie in memory that is there. So it does not matter
 * in which order size, addresses, kick, enable and memory arrive. A ring that
 * stops keeps its position, and goes on from it. Where writes are to be logged,
 * a ring also waits for the log: some front-ends bring it after the rings.
 *
 * @module
 */

import {
  hasFeature,
  VIRTIO_F_EVENT_IDX,
  VIRTIO_F_RING_PACKED,
} from "../virtqueue/constants.ts";
import { messageName } from "./constants.ts";
import type { RingInflight, RingSetup } from "./data_plane.ts";
import { ProtocolError } from "./errors.ts";
import type { GuestRegion } from "./memory_table.ts";
import {
  LOG_ALL_BIT,
  PROTOCOL_FEATURES_BIT,
  type SessionState,
} from "./state.ts";
import { ringLengths, type Vring } from "./vring.ts";

/**
 * The ring that a message names.
 *
 * @throws {ProtocolError} of kind `ring-index`
 */
export function ringAt(
  state: SessionState,
  request: number,
  index: number,
): Vring {
  if (index >= state.rings.length) {
    throw new ProtocolError(
      "ring-index",
      request,
      `ring index ${index} is not below ${state.rings.length}` +
        (state.ringHint === "" ? "" : `: ${state.ringHint}`),
    );
  }
  return state.rings[index];
}

/** Tells the data plane of the acknowledged features, if it does not know. */
export async function announceFeatures(state: SessionState): Promise<void> {
  // Whether writes are logged is no affair of the driver's.
  const features = state.features & ~(PROTOCOL_FEATURES_BIT | LOG_ALL_BIT);
  if (state.announced === features) return;
  await state.plane.negotiate(features);
  state.announced = features;
}

/** Whether rings are packed ones, by the features that were acknowledged. */
export function ringsArePacked(state: SessionState): boolean {
  return hasFeature(state.features, VIRTIO_F_RING_PACKED);
}

/** Translates the parts of a ring; `null` while not all of them are there. */
function locate(state: SessionState, ring: Vring): RingSetup | null {
  if (ring.addresses === null) return null;
  const packed = ringsArePacked(state);
  const lengths = ringLengths(
    ring.size,
    hasFeature(state.features, VIRTIO_F_EVENT_IDX),
    packed,
  );
  const { descriptor, available, used } = ring.addresses;
  const { memory } = state;
  const descriptorTable = memory.toGuest(descriptor, lengths.descriptor);
  const availableRing = memory.toGuest(available, lengths.available);
  const usedRing = memory.toGuest(used, lengths.used);
  if (descriptorTable < 0 || availableRing < 0 || usedRing < 0) return null;
  return {
    index: ring.index,
    size: ring.size,
    descriptorTable,
    availableRing,
    usedRing,
    position: ring.position,
    kickFd: ring.kickFd,
    callFd: ring.callFd,
    errorFd: ring.errorFd,
    inflight: state.inflight?.ring(ring.index, packed) ?? null,
    usedLog: ring.usedLog,
  };
}

/**
 * Starts every ring that can run.
 *
 * @param request number of the message that made it possible, for errors
 * @param rings those to look at
 * @throws {ProtocolError} of kind `ring-start` when the data plane refuses one
 */
export async function startRings(
  state: SessionState,
  request: number,
  rings: readonly Vring[] = state.rings,
): Promise<void> {
  for (const ring of rings) {
    if (!ring.running && ring.configured) await startRing(state, request, ring);
  }
}

/**
 * Starts the rings that waited for what came. It is accepted even
 * where one of them does not start, so no reply could say what is wrong.
 */
export async function startWaiting(
  state: SessionState,
  request: number,
): Promise<void> {
  try {
    await startRings(state, request);
  } catch (error) {
    if (!(error instanceof ProtocolError)) throw error;
    throw new ProtocolError("unanswerable", request, error.message, {
      cause: error,
    });
  }
}

/** Where a packed ring is tracked that the front-end does not track. */
function keptArea(
  state: SessionState,
  ring: Vring,
  setup: RingSetup,
): RingInflight | null {
  const { kept } = state;
  if (kept === null || !ringsArePacked(state)) return null;
  const event = state.memory.read32(setup.usedRing);
  const { fd } = state.memory.regions.find(({ guestAddress, size }) =>
    setup.usedRing >= guestAddress && setup.usedRing < guestAddress + size
  )!;
  try {
    return kept.ring(setup, ring.known, event, fd);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    state.log.warn(`ring ${ring.index} would not outlive a crash: ${reason}`);
    return null;
  }
}

async function startRing(
  state: SessionState,
  request: number,
  ring: Vring,
): Promise<void> {
  const setup = locate(state, ring);
  if (setup === null) {
    state.log.debug(`ring ${ring.index} waits for its memory`);
    return;
  }
  if (state.awaitsLog) {
    state.log.debug(`ring ${ring.index} waits for the log of its writes`);
    return;
  }
  await announceFeatures(state);
  ring.starting = true;
  try {
    const kept = setup.inflight === null ? keptArea(state, ring, setup) : null;
    // What is noted elsewhere, or nowhere, makes what was kept untrue.
    if (kept === null) state.kept?.forget(ring.index);
    const inflight = setup.inflight ?? kept;
    await state.plane.startRing({ ...setup, inflight });
  } catch (cause) {
    state.kept?.forget(ring.index);
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new ProtocolError(
      "ring-start",
      request,
      `ring ${ring.index} does not start: ${reason}`,
      { cause },
    );
  } finally {
    ring.starting = false;
  }
  ring.running = true;
  ring.adrift = false;
  ring.tracked = setup.inflight !== null;
  state.log.debug(`ring ${ring.index} runs`, {
    size: ring.size,
    position: ring.position,
    after: messageName(request),
  });
  state.channel.flush();
}

/**
 * Stops a ring, if it runs; nothing touches its memory after.
 *
 * @param suspend requests may stay in flight; else all are completed first
 */
export async function stopRing(
  state: SessionState,
  ring: Vring,
  suspend = false,
): Promise<void> {
  if (!ring.running) return;
  const position = await state.plane.stopRing(ring.index, suspend);
  ring.running = false;
  ring.adrift = position < 0;
  if (!ring.adrift) ring.position = position;
  state.log.debug(`ring ${ring.index} stopped`, { position: ring.position });
}

/**
 * Stops a ring, if it runs, as the front-end wants it: where that was agreed, and
 * the front-end has the requests of the ring tracked, they may stay in flight.
 */
export async function suspendRing(
  state: SessionState,
  ring: Vring,
): Promise<void> {
  await stopRing(state, ring, state.leavesInFlight && ring.tracked);
}

/** Stops all rings. */
export async function stopRings(state: SessionState): Promise<void> {
  for (const ring of state.rings) await stopRing(state, ring);
}

/** Stops the rings of which a part begins in a region. */
export async function stopRingsIn(
  state: SessionState,
  region: GuestRegion,
): Promise<void> {
  for (const ring of state.rings) {
    const at = ring.addresses;
    if (
      at !== null && (region.holds(at.descriptor, 1) ||
        region.holds(at.available, 1) || region.holds(at.used, 1))
    ) await stopRing(state, ring);
  }
}

/**
 * Refuses to go on without the area of rings that have requests nowhere else:
 * they would be lost.
 *
 * @throws {ProtocolError} of kind `unanswerable`
 */
export function requirePositions(
  request: number,
  rings: readonly Vring[],
): void {
  const adrift = rings.find((ring) => ring.adrift);
  if (adrift === undefined) return;
  throw new ProtocolError(
    "unanswerable",
    request,
    `ring ${adrift.index} stopped with requests of a predecessor that are ` +
      "in the ring no more: no position says where it goes on",
  );
}

/** What a ring is doing, for people. */
export function ringActivity(state: SessionState, ring: Vring): string {
  if (ring.running) return "running";
  if (ring.starting) return "waits for the device";
  if (!ring.started) return "stopped";
  if (!ring.enabled) return "disabled";
  if (ring.size === 0) return "waits for its size";
  if (ring.addresses === null) return "waits for its addresses";
  if (locate(state, ring) === null) return "waits for its memory";
  return state.awaitsLog ? "waits for the log of its writes" : "refused";
}
