/**
 * Entry of a device process. The supervisor starts it; see
 * `host/supervisor/protocol.ts` for the descriptors that it comes with.
 *
 * @module
 */

import { closeAllOnExec } from "../../sys/spawn.ts";
import { UnixSocket } from "../../sys/unix_socket.ts";
import { CONTROL_FD, LOG_FD, REMAINS_FD } from "../supervisor/protocol.ts";
import { serveDevices } from "./serve_devices.ts";

if (import.meta.main) {
  // What the supervisor gave us is not for children of devices.
  closeAllOnExec();
  const control = UnixSocket.adopt(CONTROL_FD);
  Deno.exit(await serveDevices(control, LOG_FD, REMAINS_FD));
}
