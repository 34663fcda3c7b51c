/**
 * Messages about inflight tracking.
 *
 * @module
 */

import type { Message } from "../connection.ts";
import { FrontEndMessage, ProtocolFeature } from "../constants.ts";
import { createInflightArea, InflightArea } from "../inflight_area.ts";
import { decodeInflight, encodeInflight } from "../message.ts";
import { requirePositions, startRings, stopRings } from "../rings.ts";
import type { SessionState } from "../state.ts";
import { type HandlerTable, type Reply, takeFd } from "./handler.ts";

/** The area is the front-end's: nothing of it is kept. */
function getInflightFd(_state: SessionState, message: Message): Reply {
  const { request, payload } = message;
  const { description, fd } = createInflightArea(
    request,
    decodeInflight(request, payload),
  );
  return { payload: encodeInflight(description, payload.length), fds: [fd] };
}

/**
 * Rings that run stop, and start again with the new area: a front-end has no
 * reason to do that, and yet nothing may come of it.
 */
async function setInflightFd(
  state: SessionState,
  message: Message,
): Promise<void> {
  const { request, payload } = message;
  const description = decodeInflight(request, payload);
  const area = new InflightArea(request, description, takeFd(message));
  await state.plane.restart(() => replaceArea(state, request, area));
}

async function replaceArea(
  state: SessionState,
  request: number,
  area: InflightArea,
): Promise<void> {
  const changes = state.inflight?.identity !== area.identity;
  try {
    await stopRings(state);
    if (changes) requirePositions(request, state.rings);
  } catch (error) {
    area.release();
    throw error;
  }
  if (changes) {
    // What rings were told when they stopped is about another area.
    for (const ring of state.rings) ring.reported = null;
  }
  state.inflight?.release();
  state.inflight = area;
  await startRings(state, request);
}

/** Handlers of this theme. */
export const INFLIGHT_HANDLERS: HandlerTable = [
  [FrontEndMessage.GET_INFLIGHT_FD, {
    requires: ProtocolFeature.INFLIGHT_SHMFD,
    replies: true,
    run: getInflightFd,
  }],
  [FrontEndMessage.SET_INFLIGHT_FD, {
    requires: ProtocolFeature.INFLIGHT_SHMFD,
    maxFds: 1,
    run: setInflightFd,
  }],
];
