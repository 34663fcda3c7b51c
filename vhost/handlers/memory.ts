/**
 * Messages about guest memory.
 *
 * @module
 */

import type { Message } from "../connection.ts";
import {
  FrontEndMessage,
  MAX_FDS,
  MAX_MEMORY_SLOTS,
  ProtocolFeature,
} from "../constants.ts";
import { ProtocolError } from "../errors.ts";
import { type GuestRegion, MemoryTable } from "../memory_table.ts";
import {
  decodeEmpty,
  decodeMemoryRegion,
  decodeMemoryTable,
  encodeU64,
} from "../message.ts";
import { startWaiting, stopRings, stopRingsIn } from "../rings.ts";
import { loggedRegion, requireLogged } from "../log_area.ts";
import type { SessionState } from "../state.ts";
import { type HandlerTable, takeFd } from "./handler.ts";

/**
 * Takes a region from the data plane, then unmaps it: in this order, so that
 * nobody holds a view of memory that is gone.
 */
export async function removeRegion(
  state: SessionState,
  region: GuestRegion,
): Promise<void> {
  await state.plane.removeRegion(region);
  state.memory.remove(region);
}

async function addMemReg(
  state: SessionState,
  message: Message,
): Promise<void> {
  const described = decodeMemoryRegion(message.request, message.payload);
  requireLogged(message.request, state, loggedRegion(described));
  const backing = takeFd(message);
  const region = state.memory.add(message.request, described, backing);
  try {
    await state.plane.addRegion(region);
  } catch (error) {
    state.memory.remove(region);
    throw error;
  }
  await startWaiting(state, message.request);
}

/**
 * Rings in the region stop, and go on where they were when memory comes back.
 * The descriptor that some front-ends send along is closed with the message.
 */
async function remMemReg(
  state: SessionState,
  message: Message,
): Promise<void> {
  const named = decodeMemoryRegion(message.request, message.payload);
  const region = state.memory.find(message.request, named);
  await stopRingsIn(state, region);
  await removeRegion(state, region);
}

/**
 * Replaces all regions. The new ones are mapped before the old ones go, so
 * that a table that is refused changes nothing.
 */
async function setMemTable(
  state: SessionState,
  message: Message,
): Promise<void> {
  const staged = new MemoryTable();
  try {
    mapTable(message, staged);
    requireLogged(
      message.request,
      state,
      ...staged.regions.map(loggedRegion),
    );
    await state.plane.restart(async () => {
      await stopRings(state);
      for (const region of [...state.memory.regions]) {
        await removeRegion(state, region);
      }
      for (const region of [...staged.regions]) {
        await state.plane.addRegion(region);
        staged.move(region, state.memory);
      }
      await startWaiting(state, message.request);
    });
  } finally {
    staged.clear();
  }
}

function mapTable(message: Message, table: MemoryTable): void {
  const described = decodeMemoryTable(message.request, message.payload);
  if (message.fdCount !== described.length) {
    throw new ProtocolError(
      "fd-count",
      message.request,
      `${message.fdCount} file descriptors came along with ` +
        `${described.length} regions`,
    );
  }
  const backings = message.takeFds();
  try {
    for (const region of described) {
      table.add(message.request, region, backings.shift()!);
    }
  } finally {
    for (const backing of backings) backing.close();
  }
}

function getMaxMemSlots(_state: SessionState, message: Message): Uint8Array {
  decodeEmpty(message.request, message.payload);
  return encodeU64(BigInt(MAX_MEMORY_SLOTS));
}

/** Handlers of this theme. */
export const MEMORY_HANDLERS: HandlerTable = [
  [FrontEndMessage.SET_MEM_TABLE, { maxFds: MAX_FDS, run: setMemTable }],
  [FrontEndMessage.GET_MAX_MEM_SLOTS, {
    requires: ProtocolFeature.CONFIGURE_MEM_SLOTS,
    replies: true,
    run: getMaxMemSlots,
  }],
  [FrontEndMessage.ADD_MEM_REG, {
    requires: ProtocolFeature.CONFIGURE_MEM_SLOTS,
    maxFds: 1,
    run: addMemReg,
  }],
  [FrontEndMessage.REM_MEM_REG, {
    requires: ProtocolFeature.CONFIGURE_MEM_SLOTS,
    maxFds: 1,
    run: remMemReg,
  }],
];
