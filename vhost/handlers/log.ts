/**
 * Messages about the log of written pages.
 *
 * @module
 */

import type { Message } from "../connection.ts";
import { FrontEndMessage, ProtocolFeature } from "../constants.ts";
import {
  applyLog,
  LogArea,
  replaceLogFd,
  requireRoomForAll,
} from "../log_area.ts";
import { decodeEmpty, decodeLog } from "../message.ts";
import { startWaiting } from "../rings.ts";
import type { SessionState } from "../state.ts";
import { type HandlerTable, takeEventFd, takeFd } from "./handler.ts";

/**
 * A log, or another one in its place, while rings run or before. What the data
 * plane wrote until the answer is in the old one, what it writes after that in
 * the new one.
 */
async function setLogBase(
  state: SessionState,
  message: Message,
): Promise<void> {
  const { request, payload } = message;
  const description = decodeLog(request, payload);
  const area = new LogArea(request, description, takeFd(message));
  try {
    requireRoomForAll(request, area, state);
  } catch (error) {
    area.release();
    throw error;
  }
  const old = state.logArea;
  state.logArea = area;
  await applyLog(state);
  old?.release();
  await startWaiting(state, request);
}

async function setLogFd(state: SessionState, message: Message): Promise<void> {
  decodeEmpty(message.request, message.payload);
  await replaceLogFd(state, takeEventFd(message));
}

/** Handlers of this theme. */
export const LOG_HANDLERS: HandlerTable = [
  [FrontEndMessage.SET_LOG_BASE, {
    requires: ProtocolFeature.LOG_SHMFD,
    acknowledged: true,
    maxFds: 1,
    run: setLogBase,
  }],
  [FrontEndMessage.SET_LOG_FD, {
    requires: ProtocolFeature.LOG_SHMFD,
    maxFds: 1,
    run: setLogFd,
  }],
];
