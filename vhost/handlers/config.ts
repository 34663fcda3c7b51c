/**
 * Messages about the device configuration space.
 *
 * @module
 */

import type { Message } from "../connection.ts";
import {
  FrontEndMessage,
  ProtocolFeature,
  VHOST_USER_MAX_CONFIG_SIZE,
} from "../constants.ts";
import { decodeConfig, encodeConfig } from "../message.ts";
import type { SessionState } from "../state.ts";
import type { HandlerTable } from "./handler.ts";

/**
 * Answers a read with exactly the bytes that were asked for. What lies beyond
 * the end of the device's own configuration reads as zeroes: front-ends ask
 * for the layout that they know, which may be newer and longer than ours, and
 * its fields belong to features that are not offered. A read that is empty or
 * leaves the 256 bytes that a configuration may have is answered with a
 * payload of no bytes, which means failure.
 */
function getConfig(state: SessionState, message: Message): Uint8Array {
  const access = decodeConfig(message.request, message.payload, true);
  const end = access.offset + access.size;
  if (access.size === 0 || end > VHOST_USER_MAX_CONFIG_SIZE) {
    state.log.debug(
      `refused a read of ${access.size} bytes at ${access.offset} of the ` +
        "configuration space",
    );
    return new Uint8Array(0);
  }
  const data = new Uint8Array(access.size);
  data.set(state.plane.config.subarray(access.offset, end));
  if (!state.rings.some((ring) => ring.running)) state.channel.configRead();
  return encodeConfig(access.offset, access.flags, data);
}

/**
 * Hands a write to the device, which applies what a driver may write and
 * ignores the rest: some front-ends send the whole space each time. What lies
 * beyond the end is cut off. A write is never refused.
 */
async function setConfig(
  state: SessionState,
  message: Message,
): Promise<void> {
  const access = decodeConfig(message.request, message.payload, false);
  const room = Math.max(0, state.plane.config.length - access.offset);
  const data = access.data.slice(0, room);
  if (data.length > 0) await state.plane.writeConfig(access.offset, data);
}

/** Handlers of this theme. */
export const CONFIG_HANDLERS: HandlerTable = [
  [FrontEndMessage.GET_CONFIG, {
    requires: ProtocolFeature.CONFIG,
    replies: true,
    run: getConfig,
  }],
  [FrontEndMessage.SET_CONFIG, {
    requires: ProtocolFeature.CONFIG,
    run: setConfig,
  }],
];
