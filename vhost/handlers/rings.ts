/**
 * Messages about rings.
 *
 * @module
 */

import type { OwnedFd } from "../../sys/fd.ts";
import type { Message } from "../connection.ts";
import {
  FrontEndMessage,
  MAX_RING_SIZE,
  VHOST_VRING_F_LOG,
} from "../constants.ts";
import { ProtocolError } from "../errors.ts";
import {
  decodeVringAddress,
  decodeVringFd,
  decodeVringState,
  encodeVringState,
} from "../message.ts";
import { loggedRing, requireLogged } from "../log_area.ts";
import {
  requirePositions,
  ringAt,
  ringsArePacked,
  startRings,
  stopRing,
  suspendRing,
} from "../rings.ts";
import type { SessionState } from "../state.ts";
import type { Vring } from "../vring.ts";
import { type HandlerTable, takeEventFd } from "./handler.ts";

function requireStopped(message: Message, ring: Vring): void {
  if (!ring.running) return;
  throw new ProtocolError(
    "ring-busy",
    message.request,
    `ring ${ring.index} is running`,
  );
}

async function setVringNum(
  state: SessionState,
  message: Message,
): Promise<void> {
  const { index, num } = decodeVringState(message.request, message.payload);
  const ring = ringAt(state, message.request, index);
  const packed = ringsArePacked(state);
  if (
    num < 1 || num > MAX_RING_SIZE || (!packed && (num & (num - 1)) !== 0)
  ) {
    const kind = packed ? "" : " a power of two";
    throw new ProtocolError(
      "ring-size",
      message.request,
      `ring size ${num} is not${kind} from 1 to ${MAX_RING_SIZE}`,
    );
  }
  if (ring.size === num) return;
  requireStopped(message, ring);
  ring.size = num;
  await startRings(state, message.request, [ring]);
}

/**
 * A running ring may be told its addresses again. Where only the logging of its
 * used ring differs, that changes under way; where its addresses do, it stops and
 * goes on at the new ones.
 */
async function setVringAddr(
  state: SessionState,
  message: Message,
): Promise<void> {
  const { index, flags, descriptor, available, used, log } = decodeVringAddress(
    message.request,
    message.payload,
  );
  const ring = ringAt(state, message.request, index);
  checkAlignment(message, "descriptor table", descriptor, 16);
  const packed = ringsArePacked(state);
  checkAlignment(message, "available ring", available, packed ? 4 : 2);
  checkAlignment(message, "used ring", used, 4);
  const usedLog = usedLogOf(message, flags, log);
  requireLogged(message.request, state, loggedRing(state, ring, usedLog));
  const old = ring.addresses;
  const same = old?.descriptor === descriptor && old.available === available &&
    old.used === used;
  if (!same) {
    return await state.plane.restart(async () => {
      await stopRing(state, ring);
      ring.usedLog = usedLog;
      ring.addresses = { descriptor, available, used };
      await startRings(state, message.request, [ring]);
    });
  }
  const logged = ring.usedLog;
  ring.usedLog = usedLog;
  if (ring.running && usedLog !== logged) {
    await state.plane.setUsedLog(index, usedLog);
  }
}

/** Where the used ring is logged; -1: nowhere. */
function usedLogOf(message: Message, flags: number, log: bigint): number {
  if ((flags >> VHOST_VRING_F_LOG & 1) === 0) return -1;
  if (log <= BigInt(Number.MAX_SAFE_INTEGER)) return Number(log);
  throw new ProtocolError(
    "ring-address",
    message.request,
    `log address 0x${log.toString(16)} is not below 2^53`,
  );
}

function checkAlignment(
  message: Message,
  part: string,
  address: number,
  alignment: number,
): void {
  if (address % alignment === 0) return;
  throw new ProtocolError(
    "ring-address",
    message.request,
    `${part} address 0x${
      address.toString(16)
    } is not a multiple of ${alignment}`,
  );
}

/**
 * Where requests of a packed ring are tracked, the area says where to go on: a
 * front-end does not know it when a back-end died. But one that was told where the
 * ring stopped, and says something else, has begun a new life of the ring: what was
 * in flight in the old one is not to be done, in a ring of either layout.
 */
function setVringBase(state: SessionState, message: Message): void {
  const { index, num } = decodeVringState(message.request, message.payload);
  const ring = ringAt(state, message.request, index);
  const packed = ringsArePacked(state);
  if (num > 0xffff && !packed) {
    throw new ProtocolError(
      "value",
      message.request,
      `available index ${num} does not fit 16 bits`,
    );
  }
  requireStopped(message, ring);
  const anew = ring.reported !== null && ring.reported !== num;
  if (anew && (packed || state.leavesInFlight)) {
    state.inflight?.clearRing(index, packed);
  }
  ring.reported = null;
  ring.position = ring.known = num;
}

/** Stops the ring; whether it is enabled stays as it is. */
async function getVringBase(
  state: SessionState,
  message: Message,
): Promise<Uint8Array> {
  const { index } = decodeVringState(message.request, message.payload);
  const ring = ringAt(state, message.request, index);
  await suspendRing(state, ring);
  requirePositions(message.request, [ring]);
  ring.stop();
  ring.reported = ring.position;
  state.kept?.forget(index);
  return encodeVringState({ index, num: ring.position });
}

interface RingAndFd {
  readonly ring: Vring;
  /** `null`: the front-end said that there is none. */
  readonly fd: OwnedFd | null;
}

function ringAndFd(state: SessionState, message: Message): RingAndFd {
  const { index, noFd } = decodeVringFd(message.request, message.payload);
  const ring = ringAt(state, message.request, index);
  if (!noFd) return { ring, fd: takeEventFd(message) };
  if (message.fdCount > 0) {
    throw new ProtocolError(
      "fd-count",
      message.request,
      "a file descriptor came along with the invalid-fd flag",
    );
  }
  return { ring, fd: null };
}

/**
 * Starts the ring. Where the front-end does not enable rings itself (bit 30 is
 * not negotiated), it is enabled with this.
 */
async function setVringKick(
  state: SessionState,
  message: Message,
): Promise<void> {
  const { ring, fd } = ringAndFd(state, message);
  await state.plane.restart(async () => {
    try {
      await stopRing(state, ring);
    } catch (error) {
      fd?.close();
      throw error;
    }
    ring.start(fd);
    if (!state.enablesRings) ring.enabled = true;
    await startRings(state, message.request, [ring]);
  });
}

/**
 * Replaces the call descriptor, whatever the ring is doing; the old one is
 * closed when nobody can signal it any more.
 */
async function setVringCall(
  state: SessionState,
  message: Message,
): Promise<void> {
  const { ring, fd } = ringAndFd(state, message);
  const old = ring.setCall(fd);
  try {
    if (ring.running) await state.plane.setCall(ring.index, ring.callFd);
  } catch (error) {
    ring.setCall(old)?.close();
    throw error;
  }
  old?.close();
}

/** As {@linkcode setVringCall}, for the error descriptor. */
async function setVringErr(
  state: SessionState,
  message: Message,
): Promise<void> {
  const { ring, fd } = ringAndFd(state, message);
  const old = ring.setError(fd);
  try {
    if (ring.running) await state.plane.setError(ring.index, ring.errorFd);
  } catch (error) {
    ring.setError(old)?.close();
    throw error;
  }
  old?.close();
}

async function setVringEnable(
  state: SessionState,
  message: Message,
): Promise<void> {
  const { index, num } = decodeVringState(message.request, message.payload);
  const ring = ringAt(state, message.request, index);
  // The protocol has 0 and 1. SPDK before 24.01 enables with the ring's size.
  ring.enabled = num !== 0;
  if (ring.enabled) await startRings(state, message.request, [ring]);
  // Front-ends disable a ring just before they stop it: requests stay in flight
  // here, too, and are taken again when it is enabled.
  else await suspendRing(state, ring);
}

/** Handlers of this theme. */
export const RING_HANDLERS: HandlerTable = [
  [FrontEndMessage.SET_VRING_NUM, { run: setVringNum }],
  [FrontEndMessage.SET_VRING_ADDR, { run: setVringAddr }],
  [FrontEndMessage.SET_VRING_BASE, { run: setVringBase }],
  [FrontEndMessage.GET_VRING_BASE, { replies: true, run: getVringBase }],
  [FrontEndMessage.SET_VRING_KICK, { maxFds: 1, run: setVringKick }],
  [FrontEndMessage.SET_VRING_CALL, { maxFds: 1, run: setVringCall }],
  [FrontEndMessage.SET_VRING_ERR, { maxFds: 1, run: setVringErr }],
  [FrontEndMessage.SET_VRING_ENABLE, { run: setVringEnable }],
];
