/**
 * Commands of vtnet(4) on the control queue.
 *
 * @module
 */

import { kassert } from "../freebsd/kernel.ts";
import { SgList } from "../freebsd/memory.ts";
import type { VirtioPci } from "../freebsd/virtio_pci.ts";
import type { Virtqueue } from "../freebsd/virtqueue.ts";

/** Room on the stack for a command and its answer. */
const STACK = 2048;
/** `VIRTIO_NET_ERR`, which the answer is preset to. */
const ERR = 1;

/**
 * `vtnet_exec_ctrl_cmd`: every part is a segment of its own; the queue is spun
 * on until the answer comes.
 *
 * @param parts class and command first, then data
 * @returns the answer
 */
export async function execControl(
  bus: VirtioPci,
  queue: Virtqueue<number[]>,
  parts: readonly (readonly number[])[],
): Promise<number> {
  const { memory } = bus;
  const stack = memory.malloc(STACK);
  const sg = new SgList(parts.length + 1);
  let at = stack, ack = 0;
  for (const part of [...parts, [ERR]]) {
    memory.ram.bytes(at, part.length).set(part);
    kassert(sg.append(at, part.length), "cannot append to the sglist");
    ack = at;
    // Not adjacent, as in the driver's structures.
    at += part.length + 8;
  }
  kassert(queue.empty, "the control queue is not empty");
  const error = queue.enqueue([], sg, parts.length, 1);
  kassert(error === 0, "cannot enqueue a command");
  queue.notify();
  await bus.poll(queue);
  const answer = memory.ram.bytes(ack, 1)[0];
  memory.mfree(stack, STACK);
  return answer;
}
