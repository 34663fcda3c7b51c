/**
 * Messages about features, ownership, status and reset.
 *
 * @module
 */

import type { Message } from "../connection.ts";
import {
  describeBits,
  FrontEndMessage,
  ProtocolFeature,
  protocolFeatureList,
} from "../constants.ts";
import { ProtocolError } from "../errors.ts";
import { applyLog, dropLog, requireRoomForAll } from "../log_area.ts";
import { decodeEmpty, decodeU64, encodeU64 } from "../message.ts";
import { announceFeatures, startRings, stopRings } from "../rings.ts";
import {
  LOG_ALL_BIT,
  PROTOCOL_FEATURES_BIT,
  type SessionState,
} from "../state.ts";
import { badFd, type HandlerTable, takeFd } from "./handler.ts";

/** Answers with a number. */
function answer(value: bigint, message: Message): Uint8Array {
  decodeEmpty(message.request, message.payload);
  return encodeU64(value);
}

async function setFeatures(
  state: SessionState,
  message: Message,
): Promise<void> {
  const features = decodeU64(message.request, message.payload);
  const excess = features & ~state.offered;
  if (excess !== 0n) {
    throw new ProtocolError(
      "features",
      message.request,
      `feature bits ${describeBits(excess)} were not offered`,
    );
  }
  const logged = state.logging;
  checkLog(state, message.request, features);
  state.features = features;
  await announceFeatures(state);
  if (logged && !state.logging) await dropLog(state);
  else await applyLog(state);
  if (!state.enablesRings) {
    for (const ring of state.rings) ring.enabled = true;
    await startRings(state, message.request);
  }
}

/** A log that came before must have room for all that came since. */
function checkLog(
  state: SessionState,
  request: number,
  features: bigint,
): void {
  if ((features & LOG_ALL_BIT) === 0n || state.logArea === null) return;
  requireRoomForAll(request, state.logArea, state);
}

function setProtocolFeatures(state: SessionState, message: Message): void {
  const features = decodeU64(message.request, message.payload);
  const excess = features & ~state.offeredProtocolFeatures;
  if (excess !== 0n) {
    throw new ProtocolError(
      "features",
      message.request,
      `protocol features ${
        protocolFeatureList(excess).join(", ")
      } were not offered`,
    );
  }
  state.protocolFeatures = features;
}

function setOwner(state: SessionState, message: Message): void {
  decodeEmpty(message.request, message.payload);
  state.owned = true;
}

/**
 * Deprecated. A back-end may ignore the message or disable all rings with it;
 * front-ends that send it differ in whether they enable the rings again, so it
 * is ignored.
 */
function resetOwner(state: SessionState, message: Message): void {
  decodeEmpty(message.request, message.payload);
  state.log.debug("VHOST_USER_RESET_OWNER is ignored");
}

/**
 * All rings are stopped and disabled, logging ends, the device starts anew.
 * Memory, owner, protocol features (and bit 30), call and error descriptors stay:
 * front-ends hand these over at connect, not again after a reset.
 */
async function resetDevice(
  state: SessionState,
  message: Message,
): Promise<void> {
  decodeEmpty(message.request, message.payload);
  await stopRings(state);
  for (const ring of state.rings) ring.reset();
  state.inflight?.clear();
  state.kept?.forgetAll();
  state.deviceStatus = 0;
  state.features &= PROTOCOL_FEATURES_BIT;
  state.announced = null;
  // What the device put off for the time of logging is not to be done any more.
  await state.plane.reset();
  await dropLog(state);
}

/**
 * Keeps the status for `GET_STATUS`, and that is all: rings obey their own
 * messages, since some front-ends never report `DRIVER_OK`, and 0 also comes
 * when a guest is merely paused, when the device must forget nothing.
 */
function setStatus(state: SessionState, message: Message): void {
  const status = decodeU64(message.request, message.payload);
  if (status > 0xffn) {
    throw new ProtocolError(
      "value",
      message.request,
      `device status 0x${status.toString(16)} does not fit 8 bits`,
    );
  }
  state.deviceStatus = Number(status);
}

function setBackendReqFd(state: SessionState, message: Message): void {
  decodeEmpty(message.request, message.payload);
  const fd = takeFd(message);
  try {
    state.channel.attach(fd);
  } catch (error) {
    throw badFd(message, error);
  }
}

/** Handlers of this theme. */
export const NEGOTIATION_HANDLERS: HandlerTable = [
  [FrontEndMessage.GET_FEATURES, {
    replies: true,
    run: (state, message) => answer(state.offered, message),
  }],
  [FrontEndMessage.SET_FEATURES, { run: setFeatures }],
  [FrontEndMessage.GET_PROTOCOL_FEATURES, {
    replies: true,
    run: (state, message) => answer(state.offeredProtocolFeatures, message),
  }],
  [FrontEndMessage.SET_PROTOCOL_FEATURES, { run: setProtocolFeatures }],
  [FrontEndMessage.SET_OWNER, { run: setOwner }],
  [FrontEndMessage.RESET_OWNER, { run: resetOwner }],
  [FrontEndMessage.RESET_DEVICE, { run: resetDevice }],
  // Offered is enough for these: so says the specification.
  [FrontEndMessage.GET_QUEUE_NUM, {
    replies: true,
    run: (state, message) => answer(BigInt(state.rings.length), message),
  }],
  [FrontEndMessage.SET_BACKEND_REQ_FD, { maxFds: 1, run: setBackendReqFd }],
  [FrontEndMessage.SET_STATUS, {
    requires: ProtocolFeature.STATUS,
    run: setStatus,
  }],
  [FrontEndMessage.GET_STATUS, {
    requires: ProtocolFeature.STATUS,
    replies: true,
    run: (state, message) => answer(BigInt(state.deviceStatus), message),
  }],
];
