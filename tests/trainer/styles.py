"""Made-up logs in the styles of many systems, with the event of every line known: do types generalise?

Each style is a list of events, `{kind}` standing for a value; line counts fall like 1/rank. Nothing is copied from a
real log: values come from small vocabularies, with the awkward ones (blanks, no digits, empty, one dominating).
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable

_USERS = ["root", "alice", "bob", "carol", "deploy", "backup", "www-data", "jenkins", "dave", "erin", "nagios"]
_HOSTS = ["atlas", "boreas", "castor", "delta", "electra", "fornax"]
_WORDS = ["harbor", "meadow", "copper", "violet", "saffron", "walnut", "juniper", "cobalt", "ember", "quartz", "linen"]
_APPS = ["Mail", "Safari", "Google Chrome", "Finder", "Music", "Microsoft Word", "Terminal", "Photos"]
_PACKAGES = [
    "com.android.systemui",
    "com.example.player",
    "org.demo.notes",
    "android",
    "com.vendor.phone",
    "com.shop.app",
]

_FIRST = [
    "Anna",
    "Boris",
    "Chloe",
    "Dmitri",
    "Elif",
    "Farid",
    "Greta",
    "Hugo",
    "Ines",
    "Jonas",
    "Karim",
    "Lena",
    "Nora",
]


def _host(r: random.Random) -> str:
    return f"{r.choice(_WORDS)}.{r.choice(['example.com', 'example.org', 'cdn.example.net', 'corp.example'])}"


def _hexes(r: random.Random, low: int, high: int) -> str:
    return f"{r.getrandbits(4 * high):0{high}x}"[: r.randint(low, high)]


KINDS: dict[str, Callable[[random.Random], str]] = {
    "int": lambda r: str(r.randint(0, 10 ** r.randint(1, 6))),
    "small": lambda r: str(r.randint(0, 9)),
    "neg": lambda r: str(r.randint(-5, 900)),
    "float": lambda r: f"{r.random() * 10 ** r.randint(0, 4):.{r.randint(1, 4)}f}",
    "hex": lambda r: "0x" + _hexes(r, 2, 12),
    "obj": lambda r: _hexes(r, 6, 7),
    "sha": lambda r: _hexes(r, 40, 40),
    "user": lambda r: r.choice(_USERS[: r.choice([2, 11])]),
    "node": lambda r: f"{r.choice(_HOSTS)}{r.randint(1, 40)}",
    "word": lambda r: r.choice(_WORDS),
    "host": _host,
    "hostport": lambda r: f"{_host(r)}:{r.choice([80, 443, 5070, 8443])}",
    "ip": lambda r: ".".join(str(r.randint(1, 254)) for _ in range(4)),
    "ipport": lambda r: ".".join(str(r.randint(1, 254)) for _ in range(4)) + f":{r.randint(1024, 65000)}",
    "mac": lambda r: ":".join(f"{r.randint(0, 255):02x}" for _ in range(6)),
    "uuid": lambda r: "-".join(_hexes(r, n, n) for n in (8, 4, 4, 4, 12)),
    "path": lambda r: (
        "/" + "/".join(r.choice(_WORDS) for _ in range(r.randint(2, 5))) + r.choice(["", ".log", ".so.1"])
    ),
    "winpath": lambda r: "C:\\Windows\\" + "\\".join(r.choice(_WORDS) for _ in range(r.randint(1, 4))) + ".dll",
    "bool": lambda r: r.choice(["true", "false"]),
    "Bool": lambda r: r.choice(["True", "False"]),
    "null": lambda r: r.choice(["null", f"WorkSource{{{r.randint(10000, 10200)}}}"]),
    "package": lambda r: r.choice(_PACKAGES),
    "activity": lambda r: f"{r.choice(_PACKAGES)}/.{r.choice(_WORDS).title()}Activity",
    "app": lambda r: r.choice(_APPS),
    "ssid": lambda r: r.choice(["home net", "cafe", "guest-5G", "Lobby WiFi", "lab"]),
    "iface": lambda r: r.choice(["en0", "en1", "awdl0", "utun2", "lo0"]),
    "life": lambda r: r.choice(
        ["<1 sec", f"{r.randint(0, 9):02d}:{r.randint(0, 59):02d}", f"01:{r.randint(0, 59):02d}:07"]
    ),
    "kb": lambda r: r.choice([f"{r.random() * 900:.1f} KB", f"{r.random() * 90:.2f} MB"]),
    "ms": lambda r: r.choice([f"{r.randint(1, 900)}ms", f"{r.random() * 9:.2f}s"]),
    "when": lambda r: (
        f"{r.choice(['Mon', 'Tue', 'Sun'])} {r.choice(['Jan', 'Jul', 'Dec'])} {r.randint(10, 28)}"
        f" 0{r.randint(0, 9)}:1{r.randint(0, 9)}:22 2017"
    ),
    "kbid": lambda r: (
        f"Package_for_KB{r.randint(2500000, 3200000)}~31bf3856ad364e35~amd64~~6.1.{r.randint(1, 9)}.{r.randint(0, 9)}"
    ),
    "session": lambda r: f"{r.randint(30000000, 31000000)}_{r.randint(10**8, 10**10)}",
    "jobid": lambda r: f"{r.randint(1000, 9999)}.{r.choice(_HOSTS)}",
    "queue": lambda r: _hexes(r, 10, 12).upper(),
    "mail": lambda r: f"{r.choice(_USERS)}@{_host(r)}",
    "list": lambda r: ", ".join(str(r.randint(1, 99)) for _ in range(r.randint(1, 6))),
    "names": lambda r: ", ".join(r.sample(_WORDS, r.randint(1, 4))),
    "rect": lambda r: f"Rect({r.randint(0, 9)}, {r.randint(0, 99)} - {r.randint(100, 2000)}, {r.randint(100, 2000)})",
    "stack": lambda r: " ".join("@0x" + _hexes(r, 9, 11) for _ in range(r.randint(3, 9))),
    "class": lambda r: (
        ".".join(r.choice(_WORDS) for _ in range(r.randint(2, 4))) + "." + r.choice(_WORDS).title() + "Handler"
    ),
    "url": lambda r: f"https://{_host(r)}/{r.choice(_WORDS)}?q={r.randint(1, 999)}",
    "maybe": lambda r: r.choice(["", r.choice(_WORDS)]),
    "ver": lambda r: f"{r.randint(1, 9)}.{r.randint(0, 20)}.{r.randint(0, 99)}",
    "first": lambda r: r.choice(_FIRST),
    "table": lambda r: r.choice(["orders", "order_items", "users", "audit_log", "public.invoices", "stock"]),
    "pod": lambda r: f"{r.choice(_WORDS)}-{_hexes(r, 9, 10)}-{''.join(r.choices('bcdfghjklmnpqrstvwxz2456789', k=5))}",
    "ns": lambda r: r.choice(["default", "kube-system", "monitoring", "prod-eu", "staging"]),
    "image": lambda r: (
        f"registry.example.com/{r.choice(_WORDS)}/{r.choice(_WORDS)}:{r.choice(['latest', 'v1.2.3', '2.0'])}"
    ),
    "port_name": lambda r: f"{r.choice(['GigabitEthernet', 'TenGigE', 'Vlan'])}{r.randint(0, 3)}/{r.randint(0, 48)}",
    "sql": lambda r: r.choice(["SELECT 1", "COMMIT", f"DELETE FROM cart WHERE id = {r.randint(1, 999)}", "BEGIN"]),
    "exc": lambda r: "java." + r.choice(["io.IOException", "lang.IllegalStateException", "net.ConnectException"]),
    "thread": lambda r: f"pool-{r.randint(1, 9)}-thread-{r.randint(1, 99)}",
    "mode": lambda r: r.choice(["fast", "smart"]),
    "country": lambda r: r.choice(["FR", "DE", "US", "JP", "BR", "IN"]),
    "file": lambda r: f"{r.choice(_WORDS)}{r.choice(['.txt', '.conf', '_2024.csv', '-old.tar.gz'])}",
    "percent": lambda r: f"{r.randint(0, 100)}%",
    "title": lambda r: " ".join(r.choice(_WORDS) for _ in range(r.randint(1, 4))),
}

STYLES: dict[str, tuple[str, ...]] = {
    "phone": (
        "acquire lock={int}, flags={hex}, name={package}, ws={null}, uid={int}, pid={int}",
        "release lock={int}, flags={hex}, name={package}, ws={null}, uid={int}, pid={int}",
        "ready={bool},policy={small},wakefulness={small},boost={bool},brightness={float}userId={int}",
        "Skipping WindowToken{{{obj} token=Token{{{obj} Record{{{obj} u0 {activity} t{int}}}}}}} -- going to hide",
        "startAnimation end for window Window{{{obj} u0 {activity}}}",
        "screen brightness in ={int}",
        "screen brightness out ={int}",
        "setSystemBarVisibility vis={int} mask={int} oldVal={int} newVal={int} bounds={rect}",
        "interceptKeyTq keycode={small} interactive={bool} keyguardActive={bool} policyFlags={int}",
        "getTasks: caller {int} does not hold GET_TASKS; limiting output",
        "getRunningProcesses: caller {int} does not hold GET_TASKS; limiting output",
        "Destroying surface Surface(name={activity}) called by {class}:{int}",
        "cancelNotification,index:{neg}",
        "cancelPeek: {package}|{int}|null|{int}",
        "updateClock",
        "playSound attrs: flags:{int} mode: {small}",
        "notifyStateForPid: pid {int}",
        "onLockscreenHidden",
        "onLockscreenShown",
        "addKeyguardDone",
        "mVolumeSmallIconVisible={bool}",
        "Bring up service {activity} failed with code {neg}",
        "Permission Denial: get/set setting for user asks to run as user {neg} but is calling from user {small}",
        "The stream is muted by {package}",
        "Start proc {int}:{package}/u0a{int} for service {activity}",
        "Killing {int}:{package}/u0a{int} (adj {neg}): empty #{int}",
        "battery level {int} plugged {small} status charging",
        "battery level {int} plugged {small} status discharging",
        "Abandoning audio focus",
        "Requesting audio focus",
    ),
    "steps": (
        "onStepChanged {int}",
        "onReportExtended:{int} {int} {small} {small}",
        "getTodayTotalSteps = {int}##{int}##{int}##{int}",
        "setTodayTotalSteps={int}##{int}##{int}##{int}",
        "calculateCaloriesWithCache totalCalories={int}",
        "calculateAltitudeWithCache totalAltitude={int}",
        "REPORT : {int} {int} {int} {int}",
        "onReceive action: android.intent.action.SCREEN_ON",
        "onReceive action: android.intent.action.SCREEN_OFF",
        "onReceive action: android.intent.action.TIME_TICK",
        "flush sensor data",
        "processHandleBroadcast action {small} done",
        "upLoadHealthData() success, cost {ms}",
        "upLoadHealthData() failed, cost {ms}",
        "checkCurrentDay a new day comes , reset basic: {int}_{int}_{int}_{small}",
        "saveHealthDetailData() deviceID = {small},date={int}, type ={int},reset,old={float},new={float}",
        "insertHiHealthData() size = {small}",
        "insertHiHealthData() bulkSaveDetail fail errorCode = {neg},errorMessage = ERR_DATA_INSERT",
        "tryToReloadTodayBasicSteps need reload",
        "ifCanSync not! cause bScreenOn = {bool}",
        "getDiffTotalSteps {int} {int} {float}",
        "setGoalNotifyTime|{int}",
        "isScreenOn {bool}",
        "initDataPrivacy the dataPrivacy switch is open, start push health data!",
        "getBinderPackageName packageName = {package}",
    ),
    "desktop": (
        "ARPT: {float}: wl0: wl_update_tcpkeep_seq: Original Seq: {int}, Ack: {int}, Win size: {int}",
        "ARPT: {float}: wl0: setup_keepalive: Local port: {int}, Remote port: {int}",
        "ARPT: {float}: wl0: setup_keepalive: Seq: {int}, Ack: {int}, Win size: {int}",
        "{iface}: BSSID changed to {mac}",
        "{iface}: channel changed to {int}",
        "AirPort: Link Down on {iface}. Reason {small} (Disassociated because station leaving).",
        "AirPort: Link Down on {iface}. Reason {small} (Unspecified).",
        "AirPort: Link Up on {iface}",
        "Thermal pressure state: {small} Memory pressure state: {small}",
        "Unexpected payload found for message {small}, dataLen {int}",
        "Invoked notification with id: {uuid}",
        "Captive: CNPluginHandler {iface}: Inactive",
        "Captive: CNPluginHandler {iface}: Authenticated",
        "Captive: [UserAgentProbe:{int}] probing '{ssid}'",
        "Previous sleep cause: {small}",
        "Wake reason: EC.{word} ({word})",
        "Sandbox: {word}({int}) deny({small}) mach-lookup com.vendor.{word}",
        "assertion failed: {int}A{int}: libxpc.dylib + {int} [{uuid}]: {hex}",
        "objc[{int}]: Class {word}Controller is implemented in both {path} and {path}. One of the two will be used.",
        'Could not find icon for "{app}"',
        "{app} window {int} moved to display {small}",
        "host connection <{word}-Connection: {hex}> invalidated",
        "Bluetooth: inquiry result from {mac}, rssi {neg}",
        "full wake promotion (reason {small}) {int} ms",
        "DHCP {iface}: lease {ip} renewed",
        "DHCP {iface}: lease {ip} expired",
        "cannot register accelerator, err={neg}",
        "PM response took {int} ms ({int}, {word}d)",
        "Failed to talk to server: {url}",
        (
            "tcp_connection_tls_session_error_callback_imp {int} "
            "__tcp_connection_tls_session_callback_write_block_invoke.{int} error {int}"
        ),
        "hibernate image path: {path}",
        "hibernate_page_list_setall({small}) start",
        "hibernate_page_list_setall({small}) end",
        (
            "IOThunderboltSwitch<{small}>({hex})::listenerCallback - Thunderbolt HPD packet for route = {hex} port "
            "= {small} unplug = {small}"
        ),
        "Basemark Quit event: {word}",
    ),
    "proxy": (
        "{hostport} close, {int} bytes sent, {int} bytes received, lifetime {life}",
        "{hostport} open through proxy {hostport} HTTPS",
        "{hostport} close, {int} bytes ({kb}) sent, {int} bytes received, lifetime {life}",
        "{hostport} close, {int} bytes sent, {int} bytes ({kb}) received, lifetime {life}",
        "{hostport} close, {int} bytes ({kb}) sent, {int} bytes ({kb}) received, lifetime {life}",
        "{hostport} open through proxy {hostport} SOCKS5",
        "{hostport} error : Could not connect through proxy {hostport} - Proxy closed the connection unexpectedly.",
        "{hostport} error : Could not connect to proxy {hostport} - connection attempt failed with error {int}",
        "{hostport} error : A connection request was canceled before the completion.",
    ),
    "cluster": (
        "session opened for user {user} by (uid={small})",
        "session closed for user {user}",
        "({user}) CMD (run-parts {path})",
        "data_thread() got not answer from any [{node}] datasource",
        "DHCPDISCOVER from {mac} via eth1",
        "DHCPOFFER on {ip} to {mac} via eth1",
        "{queue}: from=<{mail}>, size={int}, class={small}, nrcpts={small}",
        "{queue}: to={mail}, delay=00:00:{int}, mailer=relay, stat=Sent",
        "{queue}: to={mail}, delay=00:00:{int}, mailer=relay, stat=Deferred",
        "check pass; user unknown",
        "authentication failure; logname= uid={small} euid={small} tty=ssh ruser={maybe} rhost={host} user={user}",
        "Accepted publickey for {user} from {ip} port {int} ssh2",
        "Failed password for {user} from {ip} port {int} ssh2",
        "Connection closed by {ip}",
        "kernel: ib_sm: sweep {int} finished, {int} nodes",
        "kernel: Losing some ticks... checking if CPU frequency changed.",
        "kernel: EXT3-fs: mounted filesystem with ordered data mode.",
        "kernel: EXT3-fs: mounted filesystem with journal data mode.",
        "kernel: ACPI: PCI interrupt {hex}[A] -> GSI {int} (level, low) -> IRQ {int}",
        "kernel: CPU{small}: Temperature above threshold",
        "kernel: CPU{small}: Temperature/speed normal",
        "pbs_mom: scan_for_exiting, job {jobid} task {small} terminated",
        "pbs_mom: start_exec, job {jobid} task {small} started",
        "START: tftp pid={int} from={ip}",
        "EXIT: tftp pid={int} duration={int}(sec)",
        "ntpd: synchronized to {ip}, stratum {small}",
        "ntpd: time reset {float} s",
        "xinetd startup succeeded",
        "crond startup succeeded",
        "crond shutdown succeeded",
        "sshd startup succeeded",
        "cupsd startup failed",
        "mounted {host}:{path} on {path}",
        "service {word} started",
        "service {word} stopped",
        "node {node} marked down by {user}",
        "node {node} marked up by {user}",
    ),
    "servicing": (
        "Session: {session} initialized by client WindowsUpdateAgent.",
        "Session: {session} initialized by client DISM Package Manager.",
        "Read out cached package applicability for package: {kbid}, ApplicableState: {int}, CurrentState:{int}",
        "Warning: Unrecognized packageExtended attribute.",
        "Expecting attribute name [HRESULT = {hex} - CBS_E_MANIFEST_INVALID_ITEM]",
        "Failed to get next element [HRESULT = {hex} - CBS_E_MANIFEST_INVALID_ITEM]",
        "Loaded Servicing Stack v{ver} with Core: {winpath}",
        "SQM: Initializing online with Windows opt-in: {Bool}",
        "SQM: Cleaning up report files older than {small} days.",
        "SQM: Requesting upload of all unsent reports.",
        "SQM: Queued {small} file(s) for upload with pattern: {winpath}, flags: {hex}",
        "Starting TrustedInstaller initialization.",
        "Ending TrustedInstaller initialization.",
        "Starting the TrustedInstaller main loop.",
        "Ending the TrustedInstaller main loop.",
        "CSI Store {int} ({hex}) initialized",
        "WcpInitialize (wcp.dll version {ver}.{small}) called (stack {stack})",
        "CSI perf trace: CSIPERF:TXCOMMIT;{int}",
        'Creating NT transaction (seq {small}), objectname [{small}]"(null)"',
        "Created NT transaction (seq {small}) result {hex}, handle @{hex}",
        "Scavenge: Starting scavenging, actions: {hex}",
        "Scavenge: Completed, disposition: {hex}",
        "Reboot mark refs: {small}",
        "Idle processing thread terminated normally",
        "No startup processing required, TrustedInstaller service was not set as autostart",
        "NonStart: Checking to ensure startup processing was not required.",
        "Winlogon: Loading SysNotify DLL {winpath}",
        "Winlogon: Stopping notify server for {user}",
    ),
    "network": (
        "%LINK-3-UPDOWN: Interface {port_name}, changed state to up",
        "%LINK-3-UPDOWN: Interface {port_name}, changed state to down",
        "%LINEPROTO-5-UPDOWN: Line protocol on Interface {port_name}, changed state to up",
        "%LINEPROTO-5-UPDOWN: Line protocol on Interface {port_name}, changed state to down",
        "%SYS-5-CONFIG_I: Configured from console by {user} on vty{small} ({ip})",
        "%SEC-6-IPACCESSLOGP: list {int} denied tcp {ip}({int}) -> {ip}({int}), {int} packets",
        "%SEC-6-IPACCESSLOGP: list {int} permitted tcp {ip}({int}) -> {ip}({int}), {int} packets",
        "%BGP-5-ADJCHANGE: neighbor {ip} Up",
        "%BGP-5-ADJCHANGE: neighbor {ip} Down BGP Notification sent",
        "Built outbound TCP connection {int} for outside:{ip}/{int} ({ip}/{int}) to inside:{ip}/{int} ({ip}/{int})",
        "Built inbound UDP connection {int} for outside:{ip}/{int} ({ip}/{int}) to inside:{ip}/{int} ({ip}/{int})",
        (
            "Teardown TCP connection {int} for outside:{ip}/{int} to inside:{ip}/{int} duration {int}:00:{int} "
            "bytes {int} TCP FINs"
        ),
        "Teardown UDP connection {int} for outside:{ip}/{int} to inside:{ip}/{int} duration {int}:00:{int} bytes {int}",
        'Deny tcp src outside:{ip}/{int} dst inside:{ip}/{int} by access-group "{word}" [{hex}, {hex}]',
        'Login denied from {ip}/{int} to inside:{ip}/ssh for user "{user}"',
        'Login permitted from {ip}/{int} to inside:{ip}/ssh for user "{user}"',
        "ARP: duplicate address {ip} sent from {mac}",
        "Fan tray {small} failed",
        "Fan tray {small} recovered",
        "Power supply {small} failed",
        "STP: port {port_name} moved to forwarding",
        "STP: port {port_name} moved to blocking",
        "STP: port {port_name} moved to learning",
    ),
    "database": (
        "connection received: host={ip} port={int}",
        "connection authorized: user={user} database={word} application_name={app}",
        "disconnection: session time: 0:00:{float} user={user} database={word} host={ip} port={int}",
        "duration: {float} ms  statement: {sql}",
        "checkpoint starting: time",
        "checkpoint starting: xlog",
        "checkpoint complete: wrote {int} buffers ({percent}); {int} transaction log file(s) added, {int} removed",
        'automatic vacuum of table "{word}.{table}": index scans: {small}',
        'automatic analyze of table "{word}.{table}" system usage: CPU {float}s',
        "deadlock detected on relation {table} by process {int}",
        "could not serialize access due to concurrent update",
        "canceling statement due to user request",
        "canceling statement due to statement timeout",
        'duplicate key value violates unique constraint "{table}_pkey"',
        'relation "{table}" does not exist at character {int}',
        "received {mode} shutdown request",
        "database system was shut down at {when}",
        "database system is ready to accept connections",
        "replication terminated by primary server",
        "started streaming WAL from primary at {hex} on timeline {small}",
        'temporary file: path "{path}", size {int}',
        'password authentication failed for user "{user}"',
        'role "{user}" does not exist',
        "process {int} still waiting for ShareLock on transaction {int} after {float} ms",
        "process {int} acquired ShareLock on transaction {int} after {float} ms",
        "autovacuum launcher started",
        "autovacuum launcher shutting down",
    ),
    "orchestrator": (
        "Starting container {word} in pod {ns}/{pod}",
        "Killing container {word} in pod {ns}/{pod}",
        'Pulling image "{image}"',
        'Successfully pulled image "{image}" in {ms}',
        "Back-off restarting failed container {word} in pod {ns}/{pod}",
        "Readiness probe failed: HTTP probe failed with statuscode: {int}",
        "Liveness probe failed: HTTP probe failed with statuscode: {int}",
        "Readiness probe failed: dial tcp {ipport}: connect: connection refused",
        "Scaled up replica set {word}-{obj} to {small}",
        "Scaled down replica set {word}-{obj} to {small}",
        'MountVolume.SetUp succeeded for volume "{word}-config" (UniqueName: "{word}/{uuid}-{word}") pod "{pod}"',
        "Node {node} status is now: NodeReady",
        "Node {node} status is now: NodeNotReady",
        'Trace[{int}]: "List" url:{path},user-agent:{word}/v{ver},client:{ip} (started: {when}) (total time: {ms}):',
        "Successfully assigned {ns}/{pod} to {node}",
        (
            "{small}/{int} nodes are available: {small} Insufficient cpu, {small} node(s) had taints that the pod "
            "didn't tolerate."
        ),
        "Updating endpoints for {ns}/{word}:http",
        "Removing endpoints for {ns}/{word}:http",
        "Garbage collected {int} images, freed {kb}",
        "http: TLS handshake error from {ipport}: EOF",
        "http: TLS handshake error from {ipport}: remote error: tls: bad certificate",
        "Sync loop (PLEG): event for pod {pod}_{ns}({uuid}), event: ContainerStarted",
        "Sync loop (PLEG): event for pod {pod}_{ns}({uuid}), event: ContainerDied",
        "Watch close - *v1.Pod total {int} items received",
        "Watch close - *v1.Node total {int} items received",
        "lease {ns}/{word} acquired by {pod}",
        "unable to get metrics for resource cpu: no metrics returned",
        "unable to get metrics for resource memory: no metrics returned",
    ),
    "shop": (
        "Customer {first} ({mail}) placed order #{int} worth {float} EUR",
        "Customer {first} ({mail}) cancelled order #{int}",
        "Payment {uuid} accepted: method=card country={country} amount={float}",
        "Payment {uuid} accepted: method=paypal amount={float}",
        "Payment {uuid} declined: insufficient funds",
        "Payment {uuid} declined: card expired",
        "[{thread}] Caught {exc}: retry {small} of {small}",
        "[{thread}] task {class} completed in {int} ms",
        "Cart for {first} expired after {int} minutes",
        "Search '{title}' returned {int} results in {ms}",
        "Imported {int} rows from {file}",
        "Skipped malformed row {int} in {file}",
        "Mail to {mail} queued as {queue}",
        "Mail to {mail} bounced",
        "Feature flag {word} enabled for {percent} of users",
        "Feature flag {word} disabled",
        "Rate limit exceeded for client {ip} ({int} requests in {small} s)",
        "Session {sha} created for {first}",
        "Session {sha} destroyed",
        "Inventory sync with {host} finished: {int} updated, {int} unchanged",
        "Inventory sync with {host} failed: timeout after {ms}",
        "Exchange rate {country} set to {float}",
        "Shutting down gracefully, {int} requests in flight",
        "Reindexed {int} documents, took {ms}, errors=[{list}]",
        "Uploaded {file} to {url}",
        "Template {path} not found",
        "Template {path} compiled",
        "Currency cache warmed",
        "Currency cache cleared",
        "isPremium={bool} discount={float} coupon={maybe}",
    ),
    "service": (
        '{ip} "GET {path} HTTP/1.1" status: {int} len: {int} time: {float}',
        '{ip} "POST {path} HTTP/1.1" status: {int} len: {int} time: {float}',
        "request {uuid} took {ms}",
        "user {user} logged in from {ip}",
        "user {user} logged out",
        "cache miss for key {word}:{int}",
        "cache hit for key {word}:{int}",
        "loading plugin {class}",
        "unloading plugin {class}",
        "Registering {class} as handler for {class}",
        "connection to {host} lost, retrying in {ms}",
        "connection to {host} established",
        "disk {path} usage {int}% above threshold {int}%",
        "members changed: [{list}]",
        "topics assigned: [{names}]",
        "job '{title}' finished in {ms}",
        "job '{title}' failed: timeout",
        "state changed from RUNNING to STOPPING",
        "state changed from STARTING to RUNNING",
        "state changed from STOPPING to STOPPED",
        "Elected leader {node} for term {int}",
        "config reloaded, enabled={bool}, mode={word}",
        "worker started",
        "worker stopped",
        "listening on {ipport}",
        "GC pause {ms}, heap {kb} of {kb}",
        "checksum {sha} verified",
        "scheduled at {when}",
        "Service {word} entered the running state",
        "Service {word} entered the stopped state",
    ),
}


def lines(style: str, count: int = 2000, seed: int = 0) -> tuple[list[bytes], list[int]]:
    """Messages of a style and the number of the event of each; every event comes at least once."""
    r = random.Random(f"{style} {seed}")
    events = STYLES[style]
    order = r.sample(range(len(events)), len(events))
    weights = [1 / (1 + rank) for rank in range(len(events))]
    picked = order + r.choices(order, weights, k=count - len(events))
    r.shuffle(picked)
    return [_filled(events[event], r).encode() for event in picked], picked


def _filled(event: str, r: random.Random) -> str:
    filled = re.sub(r"\{(\w+)\}", lambda kind: KINDS[kind[1]](r).replace("{", "\0").replace("}", "\1"), event)
    return filled.replace("{{", "{").replace("}}", "}").replace("\0", "{").replace("\1", "}")


def grouping(truth: list[int], found: list[int]) -> tuple[float, float]:
    """GA and FGA of found groups (Jiang et al., ISSTA 2024)."""
    true_groups: dict[int, set[int]] = {}
    groups: dict[int, set[int]] = {}
    for line, (event, kind) in enumerate(zip(truth, found, strict=True)):
        true_groups.setdefault(event, set()).add(line)
        groups.setdefault(kind, set()).add(line)
    right = [lines for lines in groups.values() if true_groups[truth[min(lines)]] == lines]
    return sum(map(len, right)) / len(truth), 2 * len(right) / (len(groups) + len(true_groups))
