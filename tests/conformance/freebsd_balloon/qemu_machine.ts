/**
 * The machine of the profiles around a real QEMU, by qtest: the driver's model
 * drives QEMU's registers, and QEMU drives vhostd.
 *
 * @module
 */

import { DataFile } from "../../../sys/file.ts";
import { mapFile } from "../../../sys/mapping.ts";
import { FakeMemory } from "../../../virtqueue/testing/driver.ts";
import { Qtest } from "../qemu/qtest.ts";
import { QTEST_SLOT, QtestPci } from "../qemu/qtest_pci.ts";
import { HIGH, LOW, type MakeHardware } from "./machine.ts";

const MIB = 2 ** 20;
/** The least for which QEMU's q35 puts a part above 4 GiB. */
const MEMORY_MIB = 3072;
/** What is below 4 GiB then; the rest of the file is above. */
const LOW_MIB = 2048;
/** Where files take the space of their pages, and no more. */
const MEMORY_FILES = "/dev/shm";

/** QEMU's vhost-user-test-device-pci on the root bus of a q35 machine. */
export const qemuHardware: MakeHardware = async (socket) => {
  const directory = Deno.makeTempDirSync({ dir: MEMORY_FILES });
  const ram = `${directory}/ram`;
  Deno.writeFileSync(ram, new Uint8Array(0));
  Deno.truncateSync(ram, MEMORY_MIB * MIB);
  const qtest = await Qtest.start({
    memory: MEMORY_MIB,
    ram,
    devices: [
      ...["-chardev", `socket,id=c0,path=${socket}`],
      "-device",
      "vhost-user-test-device-pci,chardev=c0,virtio-id=5,num_vqs=5," +
      `vq_size=128,config_size=16,addr=0${QTEST_SLOT}.0`,
    ],
  });
  using file = DataFile.open(ram);
  const mappings = [
    { segment: LOW, offset: 0 },
    { segment: HIGH, offset: LOW_MIB * MIB },
  ].map(({ segment, offset }) => ({
    guestAddress: segment.start,
    mapping: mapFile(file.fd, { offset, size: segment.size }),
  }));
  return {
    device: await QtestPci.make(qtest, true, 2),
    ram: new FakeMemory(mappings.map(({ guestAddress, mapping }) => ({
      guestAddress,
      bytes: new Uint8Array(mapping.buffer),
    }))),
    allocated: () => Deno.statSync(ram).blocks! * 512,
    // QEMU waits for the answers to what counts here.
    settle: () => Promise.resolve(),
    unmap() {
      for (const { mapping } of mappings) mapping.unmap();
      Deno.removeSync(directory, { recursive: true });
    },
  };
};
