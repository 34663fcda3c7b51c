/**
 * Messages for network devices.
 *
 * @module
 */

import type { Message } from "../connection.ts";
import { FrontEndMessage, ProtocolFeature } from "../constants.ts";
import { ProtocolError } from "../errors.ts";
import { decodeU64 } from "../message.ts";
import type { SessionState } from "../state.ts";
import type { HandlerTable } from "./handler.ts";

/** Has the device carry out a command; what it refuses, is refused. */
async function command(
  state: SessionState,
  message: Message,
  name: string,
  parameters: Readonly<Record<string, unknown>>,
): Promise<void> {
  try {
    await state.plane.command(name, parameters);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new ProtocolError("device", message.request, reason, { cause });
  }
}

/** The guest has moved to us: tells the network, by an address of 6 bytes. */
async function sendRarp(state: SessionState, message: Message): Promise<void> {
  const value = decodeU64(message.request, message.payload);
  const bytes = Array.from(
    { length: 6 },
    (_, i) => Number(value >> BigInt(8 * i) & 0xffn),
  );
  const mac = bytes.map((byte) => byte.toString(16).padStart(2, "0")).join(":");
  await command(state, message, "announce", { mac });
}

/** The MTU that the guest is told. */
async function netSetMtu(state: SessionState, message: Message): Promise<void> {
  const mtu = decodeU64(message.request, message.payload);
  await command(state, message, "mtu", { mtu: Number(mtu) });
}

/** Handlers of this theme. */
export const NET_HANDLERS: HandlerTable = [
  [FrontEndMessage.SEND_RARP, {
    requires: ProtocolFeature.RARP,
    run: sendRarp,
  }],
  [FrontEndMessage.NET_SET_MTU, {
    requires: ProtocolFeature.NET_MTU,
    run: netSetMtu,
  }],
];
