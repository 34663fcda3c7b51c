/**
 * How virtio_scsi(4) and CAM above it come, work and go.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import type { Step } from "../step.ts";
import type { VtscsiMachine } from "./machine.ts";
import { IMAGE_SIZE } from "./machine.ts";

type ScsiStep = Step<VtscsiMachine>;

const KIB = 1024, BLOCK = 512;
const TUR = [0, 0, 0, 0, 0, 0];

function be32(value: number): number[] {
  return [value >>> 24, value >>> 16 & 255, value >>> 8 & 255, value & 255];
}

function transfer(opcode: number, lba: number, length: number): number[] {
  const blocks = length / BLOCK;
  return [opcode, 0, ...be32(lba), 0, blocks >> 8, blocks & 255, 0];
}

function inquiry(page: number, length: number): number[] {
  return [0x12, page < 0 ? 0 : 1, Math.max(page, 0), 0, length, 0];
}

function text(bytes: Uint8Array): string {
  return String.fromCharCode(...bytes);
}

/** The driver attaches; its event buffers come before DRIVER_OK. */
export const attach: ScsiStep = {
  what: "attaches, with event buffers on the ring before DRIVER_OK",
  source: "scsi/virtio_scsi.c vtscsi_attach, vtscsi_read_config, " +
    "vtscsi_write_device_config, vtscsi_init_event_vq",
  async run(machine): Promise<void> {
    const { device, driver, bus } = machine;
    const before = device.starts.length;
    await machine.boot();
    assertEquals([driver.maxTarget, driver.maxLun], [255, 16383]);
    // A legacy driver's notification of the event queue starts the device.
    const reason = bus.modern ? "driver-ok" : "kick";
    assertEquals(device.starts.slice(before), [reason]);
    assertEquals(driver.events, []);
  },
};

/** CAM scans all targets, LUN 0 first. */
export const scan: ScsiStep = {
  what: "all targets are scanned; absent ones time out at selection",
  source: "cam/scsi/scsi_xpt.c scsi_scan_bus, probestart; " +
    "scsi/virtio_scsi.c vtscsi_scsi_cmd_cam_status",
  async run(machine): Promise<void> {
    const found: number[] = [];
    for (let target = 0; target <= machine.driver.maxTarget; target++) {
      const { status, data } = await machine
        .command(target, 0, inquiry(-1, 36), 36);
      if (status === "CAM_SEL_TIMEOUT") continue;
      assertEquals([status, data[0]], ["CAM_REQ_CMP", 0]);
      found.push(target);
    }
    assertEquals(found, [0, 5]);
  },
};

/** The probe of one device, in CAM's order. */
export const probe: ScsiStep = {
  what: "a device is probed in CAM's order",
  source: "cam/scsi/scsi_xpt.c probestart, probedone: PROBE_INQUIRY, " +
    "PROBE_FULL_INQUIRY, PROBE_REPORT_LUNS, PROBE_MODE_SENSE, " +
    "PROBE_SUPPORTED_VPD_LIST, PROBE_DEVICE_ID, PROBE_EXTENDED_INQUIRY, " +
    "PROBE_SERIAL_NUM, PROBE_TUR_FOR_NEGOTIATION",
  async run(machine): Promise<void> {
    const run = async (cdb: readonly number[], length = 0) => {
      const result = await machine.command(0, 0, cdb, length);
      assertEquals(result.status, "CAM_REQ_CMP", `command ${cdb[0]}`);
      return result.data;
    };
    const short = await run(inquiry(-1, 36), 36);
    assertEquals(text(short.slice(8, 16)), "VHOSTD  ");
    const full = await run(inquiry(-1, short[4] + 5), short[4] + 5);
    assertEquals(full.slice(0, 36), short);
    // The list is longer than the first buffer: it is asked for again.
    const reportLuns = (length: number) => [
      ...[0xa0, 0, 0, 0, 0, 0],
      ...[...be32(length), 0, 0],
    ];
    const head = await run(reportLuns(16), 16);
    const needed = head[3] + 8;
    assertEquals(needed, 24);
    const luns = await run(reportLuns(needed), needed);
    assertEquals([luns[9], luns[17]], [0, 2]);
    const control = await run([0x1a, 8, 0x0a, 0, 255, 0], 255);
    assertEquals(control[4] & 0x3f, 0x0a);
    const pages = await run(inquiry(0x00, 255), 255);
    for (const page of [0x83, 0x86, 0x80]) {
      assert(pages.subarray(4).includes(page));
      assertEquals((await run(inquiry(page, 255), 255))[1], page);
    }
    assertEquals(text((await run(inquiry(0x80, 255), 255)).slice(4)), "SN00");
    await run(TUR);
  },
};

/** A number without a logical unit on a target that is there. */
export const absentLun: ScsiStep = {
  what: "an absent LUN of a target answers with qualifier 3",
  source: "cam/scsi/scsi_xpt.c probedone: SID_QUAL_BAD_LU",
  async run(machine): Promise<void> {
    const { status, data } = await machine.command(0, 1, inquiry(-1, 36), 36);
    assertEquals([status, data[0]], ["CAM_REQ_CMP", 0x7f]);
    const unready = await machine.command(0, 1, TUR);
    assertEquals(unready.status, "CAM_SCSI_STATUS_ERROR");
    assertEquals([unready.sense[2] & 15, unready.sense[12]], [5, 0x25]);
  },
};

/** What da(4) asks of a disk. */
export const disk: ScsiStep = {
  what: "da(4) finds size, limits and how to delete",
  source: "cam/scsi/scsi_da.c dastart, dadone_proberc, dadone_proberc16, " +
    "dadone_probelbp, dadone_probeblklimits, dadone_probebdc",
  async run(machine): Promise<void> {
    const run = async (cdb: readonly number[], length: number) => {
      const result = await machine.command(0, 0, cdb, length);
      assertEquals(result.status, "CAM_REQ_CMP", `command ${cdb[0]}`);
      return result.data;
    };
    await run([0x1a, 8, 0x3f, 0, 192, 0], 192);
    const blocks = IMAGE_SIZE / BLOCK;
    const ten = await run([0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0], 8);
    assertEquals([...ten], [...be32(blocks - 1), ...be32(BLOCK)]);
    const cdb = [0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0];
    const sixteen = await run(cdb, 32);
    assertEquals([...sixteen.slice(4, 12)], [...ten]);
    // LBPME and LBPRZ.
    assertEquals(sixteen[14] & 0xc0, 0xc0);
    const limits = await run(inquiry(0xb0, 64), 64);
    assert(limits.slice(20, 28).some((byte) => byte > 0), "UNMAP limits");
    assertEquals((await run(inquiry(0xb2, 8), 8))[5] & 0x80, 0x80);
    assertEquals((await run(inquiry(0xb1, 64), 64))[5], 1);
  },
};

/** Data both ways, up to the largest transfer, from and to any page offset. */
export const readAndWrite: ScsiStep = {
  what: "writes and reads, up to the largest transfer",
  source: "scsi/virtio_scsi.c vtscsi_execute_scsi_cmd, " +
    "vtscsi_fill_scsi_cmd_sglist, vtscsi_complete_scsi_cmd",
  async run(machine): Promise<void> {
    const { driver, memory } = machine;
    await machine.command(0, 2, TUR);
    const most = Math.min(driver.maxIo, machine.release.maxphys);
    for (const length of [BLOCK, 4 * KIB, 64 * KIB, most]) {
      for (const offset of [0, 1536]) {
        if (length === most && offset > 0 && most === driver.maxIo) continue;
        const data = new Uint8Array(length).map((_, i) =>
          i * 7 + length + i / KIB
        );
        using out = memory.buffer(length, "scattered", offset);
        out.write(data);
        const [written] = await driver.scsiIo({
          target: 0,
          lun: 2,
          cdb: transfer(0x2a, 100, length),
          dataOut: out,
        });
        assertEquals([written.status, written.resid], ["CAM_REQ_CMP", 0]);
        out.checkSurroundings();
        const image = Deno.readFileSync(machine.image("0-2.img"));
        const at = 100 * BLOCK;
        assertEquals(image.subarray(at, at + length), data);
        const read = await machine
          .command(0, 2, transfer(0x28, 100, length), length);
        assertEquals(read.data, data);
      }
    }
    const sync = await machine.command(0, 2, [0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assertEquals(sync.status, "CAM_REQ_CMP");
  },
};

/** As many commands as the ring has room for, ordered ones among them. */
export const fullRing: ScsiStep = {
  what: "a full ring, with ordered commands in it",
  source: "scsi/virtio_scsi.c vtscsi_start_scsi_cmd, " +
    "vtscsi_init_scsi_cmd_req: MSG_ORDERED_Q_TAG",
  async run({ driver, memory }): Promise<void> {
    const buffers = Array.from(
      { length: driver.queue.size },
      () => memory.buffer(4 * KIB),
    );
    const results = await driver.scsiIo(...buffers.map((dataIn, i) => ({
      target: 0,
      lun: 2,
      cdb: transfer(0x28, i * 8, 4 * KIB),
      dataIn,
      ordered: i % 10 === 9,
    })));
    assert(results.every(({ status }) => status === "CAM_REQ_CMP"));
    for (const buffer of buffers) {
      buffer.checkSurroundings();
      buffer[Symbol.dispose]();
    }
  },
};

/** The rule of ABORT TASK: the command comes back, too. */
export const abortTask: ScsiStep = {
  what: "an aborted command still comes back, once",
  source: "scsi/virtio_scsi.c vtscsi_abort_timedout_scsi_cmd, " +
    "vtscsi_complete_abort_timedout_scsi_cmd, vtscsi_complete_scsi_cmd",
  async run({ driver, memory }): Promise<void> {
    for (let round = 0; round < 8; round++) {
      const buffers = Array.from({ length: 16 }, () => memory.buffer(64 * KIB));
      const requests = buffers.map((dataIn, i) =>
        driver.start({
          target: 0,
          lun: 2,
          cdb: transfer(0x28, i * 128, 64 * KIB),
          dataIn,
        })
      );
      assertEquals(await driver.abort(requests[round]), 0);
      const results = await driver.finish(requests);
      results.forEach(({ status }, i) => {
        const aborted = i === round && status === "CAM_REQ_ABORTED";
        assert(aborted || status === "CAM_REQ_CMP", `${i} ended as ${status}`);
      });
      for (const buffer of buffers) {
        buffer.checkSurroundings();
        buffer[Symbol.dispose]();
      }
    }
  },
};

/** Resets of a logical unit, and of a target by the wildcard. */
export const resetDevice: ScsiStep = {
  what: "a logical unit and a target are reset, and say so",
  source: "scsi/virtio_scsi.c vtscsi_execute_reset_dev_cmd, " +
    "vtscsi_complete_reset_dev_cmd",
  async run({ driver }): Promise<void> {
    const attention = async () => {
      const [{ sense }] = await driver.scsiIo({ target: 0, lun: 0, cdb: TUR });
      return [sense[2] & 15, sense[12], sense[13]];
    };
    assertEquals(await driver.resetDevice(0, 0), 0);
    assertEquals(await attention(), [6, 0x29, 3]);
    assertEquals(await driver.resetDevice(0), 0);
    assertEquals(await attention(), [6, 0x29, 7]);
    // BAD_TARGET: CAM_REQ_CMP_ERR.
    assertEquals(await driver.resetDevice(77, 0), 3);
  },
};

/** More events than buffers, each buffer used again. */
export const hotplug: ScsiStep = {
  what: "logical units come and go, told by events",
  source: "scsi/virtio_scsi.c vtscsi_event_vq_intr, vtscsi_handle_event, " +
    "vtscsi_transport_reset_event, vtscsi_enqueue_event_buf",
  async run(machine): Promise<void> {
    const { server, driver } = machine;
    const place = { target: 9, lun: 300 };
    const path = machine.image("hot.img");
    Deno.writeFileSync(path, new Uint8Array(1024 * KIB));
    for (let round = 0; round < 3; round++) {
      const mark = driver.events.length;
      await server.command("lun-add", { ...place, path });
      await driver.waitEvents(mark + 1);
      const { status } = await machine.command(9, 300, inquiry(-1, 36), 36);
      assertEquals(status, "CAM_REQ_CMP");
      await server.command("lun-remove", place);
      await driver.waitEvents(mark + 2);
      const gone = await machine.command(9, 300, inquiry(-1, 36), 36);
      assertEquals(gone.status, "CAM_SEL_TIMEOUT");
      // The driver reads the LUN with its addressing method.
      const where = { event: 1, target: 9, lun: 0x4000 | 300 };
      assertEquals(driver.events.slice(mark), [
        { ...where, reason: 1 },
        { ...where, reason: 2 },
      ]);
    }
    // CHANGE was not negotiated: a new size is a unit attention condition only.
    const mark = driver.events.length;
    Deno.truncateSync(machine.image("5-0.img"), 2 * IMAGE_SIZE);
    await machine.command(5, 0, TUR);
    await server.command("lun-resize", { target: 5, lun: 0 });
    const [{ sense }] = await driver.scsiIo({ target: 5, lun: 0, cdb: TUR });
    assertEquals([sense[2] & 15, sense[12], sense[13]], [6, 0x2a, 9]);
    assertEquals(driver.events.length, mark);
  },
};

/** `kldunload virtio_scsi`, and a boot after it. */
export const unloadAndBoot: ScsiStep = {
  what: "is unloaded with its event buffers, and boots again",
  source: "scsi/virtio_scsi.c vtscsi_detach, vtscsi_drain_vqs, vtscsi_attach",
  async run(machine): Promise<void> {
    await machine.bus.detachChild();
    await machine.device.machineReset();
    machine.powerOn();
    await machine.boot();
    const { status } = await machine.command(0, 0, TUR);
    assertEquals(status, "CAM_REQ_CMP");
  },
};

/** What must be true when all is done. */
export const healthy: ScsiStep = {
  what: "the server saw nothing wrong",
  source: "virtqueue.c VQASSERT: a kernel with INVARIANTS did not panic",
  async run({ server }): Promise<void> {
    const { session, rings, device } = await server.status() as {
      session: { refused: number; lastError: string | null };
      rings: { badChains: number; broken: string | null }[];
      device: { requests: { malformed: number } };
    };
    assertEquals([session.refused, session.lastError], [0, null]);
    assertEquals(rings.length, 3);
    for (const { badChains, broken } of rings) {
      assertEquals([badChains, broken], [0, null]);
    }
    assertEquals(device.requests.malformed, 0);
  },
};
