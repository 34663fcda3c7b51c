/**
 * Messages about the device configuration space.
 *
 * @module
 */

import { answerConfigRead, decodeConfigWrite } from "../config_space.ts";
import { isConfigRefusal } from "../../virtqueue/config_refusal.ts";
import type { Message } from "../connection.ts";
import { FrontEndMessage, ProtocolFeature } from "../constants.ts";
import { ProtocolError } from "../errors.ts";
import { decodeConfig } from "../message.ts";
import type { SessionState } from "../state.ts";
import type { HandlerTable } from "./handler.ts";

function getConfig(
  state: SessionState,
  { request, payload }: Message,
): Uint8Array {
  const reply = answerConfigRead(state.plane.config, request, payload);
  if (reply.length === 0) {
    const { offset, size } = decodeConfig(request, payload, true);
    state.log.debug(
      `refused a read of ${size} bytes at ${offset} of the configuration space`,
    );
  } else if (!state.rings.some((ring) => ring.running)) {
    state.channel.configRead();
  }
  return reply;
}

/**
 * Hands a write to the device, which applies what a driver may write and
 * ignores the rest: some front-ends send the whole space each time. What it
 * refuses is refused.
 */
async function setConfig(
  state: SessionState,
  { request, payload }: Message,
): Promise<void> {
  const { plane } = state;
  const { offset, data } = decodeConfigWrite(plane.config, request, payload);
  if (data.length === 0) return;
  try {
    await plane.writeConfig(offset, data);
  } catch (cause) {
    if (!isConfigRefusal(cause)) throw cause;
    throw new ProtocolError("device", request, cause.message, { cause });
  }
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
