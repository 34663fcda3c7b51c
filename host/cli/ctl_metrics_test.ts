import { assertEquals } from "@std/assert";
import { metrics } from "./ctl_metrics.ts";

const DEVICE = {
  name: "root",
  type: "scsi",
  socket: "root.sock",
  process: null,
  state: "running",
  problem: null,
  pid: 7,
  rss: 4096,
  restarts: 2,
  lastExit: "killed",
  connected: true,
  connections: 3,
  refusedConnections: 1,
  session: {
    features: "0x1",
    featureNames: [],
    protocolFeatures: [],
    refused: 5,
    regions: [{ size: 9 }],
  },
  rings: [{ index: 2, size: 128, kicks: 4 }, { index: 3, size: 8, kicks: 0 }],
  device: {
    initiator: "hba-0",
    luns: [{ target: 1, lun: 2, capacity: 512, readOnly: false }],
    requests: {
      bytes: 8,
      eventsMissed: 0,
      commands: { "0x28": 6, "0x2a": 7 },
      statuses: { good: 9 },
    },
    sizes: [1, 2],
    parts: [{ busy: true }],
  },
};

Deno.test("metrics() tells every number of every device", () => {
  const text = metrics({
    version: "1.2.3",
    pid: 5,
    uptime: 60,
    devices: [DEVICE, { ...DEVICE, name: 'a"b', state: "failed" }],
  });
  const lines = text.split("\n");
  const root = 'device="root",type="scsi"';
  assertEquals(
    lines.filter((line) => !line.includes('a\\"b')),
    [
      `vhostd_device_connected{${root}} 1`,
      `vhostd_device_connections{${root}} 3`,
      `vhostd_device_refused_connections{${root}} 1`,
      `vhostd_device_restarts{${root}} 2`,
      `vhostd_device_rings_kicks{${root},ring="2"} 4`,
      `vhostd_device_rings_kicks{${root},ring="3"} 0`,
      `vhostd_device_rings_size{${root},ring="2"} 128`,
      `vhostd_device_rings_size{${root},ring="3"} 8`,
      `vhostd_device_rss{${root}} 4096`,
      `vhostd_device_running{${root}} 1`,
      'vhostd_info{version="1.2.3"} 1',
      `vhostd_scsi_luns_capacity{${root},target="1",lun="2"} 512`,
      `vhostd_scsi_luns_read_only{${root},target="1",lun="2"} 0`,
      `vhostd_scsi_parts_busy{${root},part="0"} 1`,
      `vhostd_scsi_requests_bytes{${root}} 8`,
      `vhostd_scsi_requests_commands{${root},commands="0x28"} 6`,
      `vhostd_scsi_requests_commands{${root},commands="0x2a"} 7`,
      `vhostd_scsi_requests_events_missed{${root}} 0`,
      `vhostd_scsi_requests_statuses_good{${root}} 9`,
      `vhostd_session_refused{${root}} 5`,
      "vhostd_uptime 60",
    ],
  );
  assertEquals(
    lines.find((line) => line.includes('a\\"b')),
    'vhostd_device_connected{device="a\\"b",type="scsi"} 1',
  );
  // Samples of one metric are together, and none is there twice.
  const names = lines.map((line) => line.split(/[{ ]/)[0]);
  assertEquals(names, [...names].sort());
  const series = lines.map((line) => line.slice(0, line.lastIndexOf(" ")));
  assertEquals(new Set(series).size, lines.length);
});
