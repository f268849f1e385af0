-- One ExpertScope session. Times are integer nanoseconds in the session's own clock (modelled time on an emulated machine),
-- from 0 at the start of the run. Names and meanings of columns never change; later versions only add.
--
-- The v_* views at the end are the stable interface for queries: they join the names of enumerations and leave out nothing.
-- Rows of each table are in the order in which they were recorded (id). Two equal runs on an emulated machine have equal
-- rows in every table but `wall`.
--
-- application_id 0x45585053 ("EXPS") and user_version (the number of this schema) are set by the writer. A line "-- Schema N"
-- begins what schema N added: a session of schema N - 1 has everything above it and nothing below.

-- What the run is: model, machine, memory, start of the policy. One row a fact; storage/session_facts.cpp lists the keys.
-- JSON texts are whole, so that a session replays without the files that it was made from.
CREATE TABLE session (
  key   TEXT NOT NULL PRIMARY KEY,
  value TEXT NOT NULL
) STRICT;

-- All that may differ between two equal runs: dates, paths, host, measured overheads, the user's note.
CREATE TABLE wall (
  key   TEXT NOT NULL PRIMARY KEY,
  value TEXT NOT NULL
) STRICT;

-- Headline numbers for lists of sessions, kept up to date while the session is written. One row.
CREATE TABLE headline (
  id             INTEGER PRIMARY KEY CHECK (id = 1),
  prefill_tokens INTEGER NOT NULL,  -- prompt tokens forwarded
  prefill_ns     INTEGER NOT NULL,  -- time of prefill steps
  decode_tokens  INTEGER NOT NULL,  -- tokens of decode steps
  decode_ns      INTEGER NOT NULL,  -- time of decode steps
  decode_demands INTEGER NOT NULL,
  decode_hits    INTEGER NOT NULL
) STRICT;

-- One forward pass: a chunk of a prompt, or one decode step.
CREATE TABLE step (
  step            INTEGER PRIMARY KEY,  -- from 0
  phase           INTEGER NOT NULL,     -- ENUM_PHASE
  prompt          INTEGER NOT NULL,     -- prompt.prompt
  epoch           INTEGER NOT NULL,     -- epoch.epoch in force
  start_ns        INTEGER NOT NULL,     -- tokens accepted
  end_ns          INTEGER NOT NULL,     -- token sampled
  first_position  INTEGER NOT NULL,     -- position of its first token in the KV cache
  first_generated INTEGER NOT NULL,     -- generated tokens of the whole run before it
  tokens          INTEGER NOT NULL,     -- tokens forwarded
  sampled         INTEGER NOT NULL,     -- tokens sampled at its end: 0 for all but the last chunk of a prompt
  logits          INTEGER NOT NULL      -- tokens whose logits were computed
) STRICT;

-- One unit of work on a lane, or a wait of it for a copy. Intervals of one lane and device never overlap.
CREATE TABLE work (
  id        INTEGER PRIMARY KEY,
  start_ns  INTEGER NOT NULL,
  end_ns    INTEGER NOT NULL,
  step      INTEGER NOT NULL,
  kind      INTEGER NOT NULL,  -- ENUM_WORK_KIND
  lane      INTEGER NOT NULL,  -- ENUM_LANE
  device    INTEGER NOT NULL,  -- GPU number
  layer     INTEGER,           -- NULL: of no layer
  expert    INTEGER,           -- NULL: of no expert
  tokens    INTEGER NOT NULL,  -- rows it worked on
  precision INTEGER NOT NULL,  -- ENUM_PRECISION of the weights
  bytes     INTEGER NOT NULL,  -- memory traffic it was expected to need (of the cost shape)
  flops     INTEGER NOT NULL   -- arithmetic it was expected to need, one multiply-add = 2
) STRICT;

-- One uninterrupted piece of a copy: a copy that was overtaken by a more urgent one has several.
CREATE TABLE copy (
  id        INTEGER PRIMARY KEY,
  copy      INTEGER NOT NULL,  -- number of the copy that it is a piece of
  issued_ns INTEGER NOT NULL,
  start_ns  INTEGER NOT NULL,
  end_ns    INTEGER NOT NULL,
  step      INTEGER NOT NULL,  -- step in which it was issued
  reason    INTEGER NOT NULL,  -- ENUM_COPY_REASON
  lane      INTEGER NOT NULL,  -- ENUM_LANE
  device    INTEGER NOT NULL,  -- GPU number
  layer     INTEGER,           -- NULL: carries no expert
  expert    INTEGER,           -- NULL: carries no expert
  slot      INTEGER,           -- slot that it fills; NULL: none
  precision INTEGER NOT NULL,  -- ENUM_PRECISION
  bytes     INTEGER NOT NULL,
  last      INTEGER NOT NULL   -- 1: this piece completed the copy
) STRICT;

-- One distinct (step, layer, expert) that the router asked for.
CREATE TABLE demand (
  id         INTEGER PRIMARY KEY,
  step       INTEGER NOT NULL,
  layer      INTEGER NOT NULL,
  expert     INTEGER NOT NULL,
  asked_ns   INTEGER NOT NULL,  -- the router's result was there
  ready_ns   INTEGER NOT NULL,  -- its result, or the weights it waited for, were there
  picks      INTEGER NOT NULL,  -- how many (token, rank) choices of the step it serves
  rank       INTEGER NOT NULL,  -- best rank among them, 0 = the router's first choice
  weight     REAL NOT NULL,     -- largest router weight among them
  state      INTEGER NOT NULL,  -- ENUM_DEMAND_STATE when it was asked for
  outcome    INTEGER NOT NULL,  -- ENUM_OUTCOME
  precision  INTEGER NOT NULL,  -- ENUM_PRECISION that it ran in
  device     INTEGER NOT NULL,  -- GPU number
  prefetched INTEGER NOT NULL   -- 1: its slot was filled by a prefetch that no demand had used before
) STRICT;

-- A slot got or lost an expert.
CREATE TABLE residency (
  id     INTEGER PRIMARY KEY,
  at_ns  INTEGER NOT NULL,
  step   INTEGER NOT NULL,
  layer  INTEGER NOT NULL,
  expert INTEGER NOT NULL,
  slot   INTEGER NOT NULL,
  device INTEGER NOT NULL,
  change INTEGER NOT NULL,  -- ENUM_RESIDENCY_CHANGE
  reason INTEGER NOT NULL,  -- ENUM_COPY_REASON: why it had been loaded
  used   INTEGER NOT NULL   -- on a loss, 1: a demand had used it since it was loaded
) STRICT;

-- The tokens of prompts and the generated ones.
CREATE TABLE token (
  id        INTEGER PRIMARY KEY,
  at_ns     INTEGER NOT NULL,  -- when it was known: start of its step, or end of the step that sampled it
  step      INTEGER NOT NULL,  -- step that forwarded it (prompt) or sampled it (generated)
  prompt    INTEGER NOT NULL,
  position  INTEGER NOT NULL,  -- generated: number in the whole run, prompt token: number within the prompt; from 0
  token_id  INTEGER NOT NULL,  -- number in the vocabulary; piece.token_id
  generated INTEGER NOT NULL   -- 1: generated, 0: of the prompt
) STRICT;

-- Text of every token that occurs.
CREATE TABLE piece (
  token_id INTEGER PRIMARY KEY,
  bytes    BLOB NOT NULL  -- need not be whole UTF-8 characters
) STRICT;

-- The router's word for one token in one layer, as a replay needs it.
CREATE TABLE route (
  id           INTEGER PRIMARY KEY,
  step         INTEGER NOT NULL,
  layer        INTEGER NOT NULL,
  token        INTEGER NOT NULL,  -- index within the step
  picks        INTEGER NOT NULL,  -- top-k
  gates        INTEGER NOT NULL,  -- recorded gates: 1 = this layer's router, 1 + d = and those of the d layers ahead
  gate_entries INTEGER NOT NULL,  -- best probabilities kept of each gate
  -- Little endian, without padding: experts, picks x uint16, best first; their weights, picks x float32; then for each gate
  -- gate_entries x (expert uint16, probability * 65535 as uint16), best first.
  data         BLOB NOT NULL
) STRICT;

-- A stretch of the run under one policy and cache size. The first is the start.
CREATE TABLE epoch (
  epoch       INTEGER PRIMARY KEY,
  step        INTEGER NOT NULL,  -- first step under it
  at_token    INTEGER NOT NULL,  -- generated tokens before it
  at_ns       INTEGER NOT NULL,
  source      TEXT NOT NULL,     -- 'start', 'user' or 'script'
  change      TEXT NOT NULL,     -- what changed, for people
  policy_spec TEXT NOT NULL,     -- in force, complete
  cache_ratio REAL NOT NULL,     -- of the bytes of all routed experts
  cache_bytes INTEGER NOT NULL,
  slots       INTEGER NOT NULL,
  cache_reset INTEGER NOT NULL   -- 1: the cache was emptied
) STRICT;

CREATE TABLE prompt (
  prompt     INTEGER PRIMARY KEY,
  first_step INTEGER NOT NULL,
  at_ns      INTEGER NOT NULL,
  workload   TEXT NOT NULL,  -- name of the list it came from, or ''
  text       TEXT NOT NULL
) STRICT;

-- Marks that the user set.
CREATE TABLE mark (
  id       INTEGER PRIMARY KEY,
  at_ns    INTEGER NOT NULL,
  at_token INTEGER NOT NULL,  -- generated tokens before it
  text     TEXT NOT NULL
) STRICT;

-- What was lost, replaced or ignored while the run went on. Counts of one code add up.
CREATE TABLE health (
  id       INTEGER PRIMARY KEY,
  code     TEXT NOT NULL,
  severity INTEGER NOT NULL,  -- ENUM_SEVERITY
  count    INTEGER NOT NULL,
  text     TEXT NOT NULL
) STRICT;

-- Best logits of each prompt's last position, best first.
CREATE TABLE logit (
  id       INTEGER PRIMARY KEY,
  prompt   INTEGER NOT NULL,
  rank     INTEGER NOT NULL,
  token_id INTEGER NOT NULL,
  logit    REAL NOT NULL
) STRICT;

-- What teacher forcing found, stretch by stretch; perplexity = exp(sum of nll_sum / sum of tokens).
CREATE TABLE quality (
  id      INTEGER PRIMARY KEY,
  prompt  INTEGER NOT NULL,
  nll_sum REAL NOT NULL,    -- negative log likelihood of the scored tokens, nats
  tokens  INTEGER NOT NULL  -- scored tokens
) STRICT;

CREATE TABLE ENUM_PHASE (id INTEGER PRIMARY KEY, name TEXT NOT NULL) STRICT;
CREATE TABLE ENUM_LANE (id INTEGER PRIMARY KEY, name TEXT NOT NULL) STRICT;
CREATE TABLE ENUM_WORK_KIND (id INTEGER PRIMARY KEY, name TEXT NOT NULL) STRICT;
CREATE TABLE ENUM_COPY_REASON (id INTEGER PRIMARY KEY, name TEXT NOT NULL) STRICT;
CREATE TABLE ENUM_DEMAND_STATE (id INTEGER PRIMARY KEY, name TEXT NOT NULL) STRICT;
CREATE TABLE ENUM_OUTCOME (id INTEGER PRIMARY KEY, name TEXT NOT NULL) STRICT;
CREATE TABLE ENUM_PRECISION (id INTEGER PRIMARY KEY, name TEXT NOT NULL) STRICT;
CREATE TABLE ENUM_RESIDENCY_CHANGE (id INTEGER PRIMARY KEY, name TEXT NOT NULL) STRICT;
CREATE TABLE ENUM_SEVERITY (id INTEGER PRIMARY KEY, name TEXT NOT NULL) STRICT;

INSERT INTO ENUM_PHASE VALUES (0, 'prefill'), (1, 'decode');
INSERT INTO ENUM_LANE VALUES (0, 'host'), (1, 'gpu'), (2, 'h2d'), (3, 'd2h'), (4, 'cpu'), (5, 'storage');
INSERT INTO ENUM_WORK_KIND VALUES (0, 'embed'), (1, 'attention'), (2, 'router'), (3, 'expert'), (4, 'combine'), (5, 'head'),
  (6, 'routing_sync'), (7, 'policy'), (8, 'sampling'), (9, 'wait_demand'), (10, 'wait_prefetch'), (11, 'wait_placement'),
  (12, 'wait_activation');
INSERT INTO ENUM_COPY_REASON VALUES (0, 'demand'), (1, 'promotion'), (2, 'prefetch'), (3, 'placement'), (4, 'activation'),
  (5, 'input');
INSERT INTO ENUM_DEMAND_STATE VALUES (0, 'hit'), (1, 'late'), (2, 'miss');
INSERT INTO ENUM_OUTCOME VALUES (0, 'gpu'), (1, 'fetched'), (2, 'streamed'), (3, 'cpu'), (4, 'cpu_early'), (5, 'skipped'),
  (6, 'substituted');
INSERT INTO ENUM_PRECISION VALUES (0, 'native'), (1, 'int8'), (2, 'int4'), (3, 'int2');
INSERT INTO ENUM_RESIDENCY_CHANGE VALUES (0, 'loaded'), (1, 'evicted'), (2, 'dropped');
INSERT INTO ENUM_SEVERITY VALUES (0, 'info'), (1, 'warning'), (2, 'loss');

-- Friendly joins: names instead of numbers, durations beside the times.

CREATE VIEW v_step AS
SELECT s.step, p.name AS phase, s.prompt, s.epoch, e.policy_spec AS policy, e.cache_ratio, s.start_ns, s.end_ns,
       s.end_ns - s.start_ns AS duration_ns, s.first_position, s.first_generated, s.tokens, s.sampled,
       s.logits
FROM step s LEFT JOIN ENUM_PHASE p ON p.id = s.phase LEFT JOIN epoch e ON e.epoch = s.epoch;

CREATE VIEW v_work AS
SELECT w.id, w.start_ns, w.end_ns, w.end_ns - w.start_ns AS duration_ns, w.step, k.name AS kind, l.name AS lane, w.device,
       w.layer, w.expert, w.tokens, p.name AS precision, w.bytes, w.flops
FROM work w LEFT JOIN ENUM_WORK_KIND k ON k.id = w.kind LEFT JOIN ENUM_LANE l ON l.id = w.lane
     LEFT JOIN ENUM_PRECISION p ON p.id = w.precision;

CREATE VIEW v_copy AS
SELECT c.id, c.copy, c.issued_ns, c.start_ns, c.end_ns, c.end_ns - c.start_ns AS duration_ns, c.step, r.name AS reason,
       l.name AS lane, c.device, c.layer, c.expert, c.slot, p.name AS precision, c.bytes, c.last
FROM copy c LEFT JOIN ENUM_COPY_REASON r ON r.id = c.reason LEFT JOIN ENUM_LANE l ON l.id = c.lane
     LEFT JOIN ENUM_PRECISION p ON p.id = c.precision;

CREATE VIEW v_demand AS
SELECT d.id, d.step, h.name AS phase, s.epoch, d.layer, d.expert, d.asked_ns, d.ready_ns, d.ready_ns - d.asked_ns AS wait_ns,
       d.picks, d.rank, d.weight, t.name AS state, o.name AS outcome, p.name AS precision, d.device, d.prefetched
FROM demand d LEFT JOIN step s ON s.step = d.step LEFT JOIN ENUM_PHASE h ON h.id = s.phase
     LEFT JOIN ENUM_DEMAND_STATE t ON t.id = d.state LEFT JOIN ENUM_OUTCOME o ON o.id = d.outcome
     LEFT JOIN ENUM_PRECISION p ON p.id = d.precision;

CREATE VIEW v_residency AS
SELECT r.id, r.at_ns, r.step, r.layer, r.expert, r.slot, r.device, c.name AS change, w.name AS reason, r.used
FROM residency r LEFT JOIN ENUM_RESIDENCY_CHANGE c ON c.id = r.change LEFT JOIN ENUM_COPY_REASON w ON w.id = r.reason;

CREATE VIEW v_token AS
SELECT t.id, t.at_ns, t.step, t.prompt, t.position, t.token_id, t.generated, CAST(p.bytes AS TEXT) AS text,
       s.end_ns - s.start_ns AS step_ns
FROM token t LEFT JOIN piece p ON p.token_id = t.token_id LEFT JOIN step s ON s.step = t.step;

-- Each layer's experts over the whole session.
CREATE VIEW v_expert AS
SELECT layer, expert, sum(picks) AS activations, count(*) AS demands, sum(state = 0) AS hits, sum(state = 1) AS late,
       sum(state = 2) AS misses, sum(outcome IN (3, 4)) AS cpu
FROM demand GROUP BY layer, expert;

-- Expert copies host to device by reason; bytes of pieces, copies that completed.
CREATE VIEW v_transfer AS
SELECT r.name AS reason, sum(c.last) AS count, sum(c.bytes) AS bytes, sum(c.end_ns - c.start_ns) AS copy_ns
FROM copy c JOIN ENUM_COPY_REASON r ON r.id = c.reason WHERE c.lane = 2 AND c.reason <= 3 GROUP BY c.reason;

CREATE VIEW v_health AS
SELECT h.code, s.name AS severity, sum(h.count) AS count, max(h.text) AS text
FROM health h LEFT JOIN ENUM_SEVERITY s ON s.id = h.severity GROUP BY h.code;

-- Schema 2

-- What CUPTI saw the device do. Names and columns of these tables are those of Nsight Systems' SQLite export, so that its
-- scripts work on a session; the columns from `step` on are ours: they say what the engine launched it for, and are NULL
-- where no launch of the engine's was found. Times are in the session's clock like all others; both 0: CUPTI had no times.
-- Empty in sessions that CUPTI took no part in.

CREATE TABLE StringIds (
  id    INTEGER NOT NULL PRIMARY KEY,
  value TEXT NOT NULL
) STRICT;

CREATE TABLE TARGET_INFO_GPU (
  vmId            INTEGER NOT NULL,
  id              INTEGER NOT NULL,  -- deviceId
  name            TEXT,
  l2CacheSize     INTEGER,  -- bytes
  totalMemory     INTEGER,  -- bytes
  memoryBandwidth INTEGER,  -- bytes per second
  clockRate       INTEGER,  -- Hz
  smCount         INTEGER,
  cuDevice        INTEGER,
  computeMajor    INTEGER,
  computeMinor    INTEGER
) STRICT;

CREATE TABLE CUPTI_ACTIVITY_KIND_KERNEL (
  start                   INTEGER NOT NULL,  -- ns
  end                     INTEGER NOT NULL,  -- ns
  deviceId                INTEGER NOT NULL,
  contextId               INTEGER NOT NULL,
  greenContextId          INTEGER,
  streamId                INTEGER NOT NULL,
  correlationId           INTEGER,           -- of the API call that launched it
  globalPid               INTEGER,           -- process id << 24
  demangledName           INTEGER NOT NULL,  -- StringIds
  shortName               INTEGER NOT NULL,  -- StringIds
  mangledName             INTEGER,           -- StringIds
  launchType              INTEGER,           -- ENUM_CUDA_KERNEL_LAUNCH_TYPE
  cacheConfig             INTEGER,
  registersPerThread      INTEGER NOT NULL,
  gridX                   INTEGER NOT NULL,
  gridY                   INTEGER NOT NULL,
  gridZ                   INTEGER NOT NULL,
  blockX                  INTEGER NOT NULL,
  blockY                  INTEGER NOT NULL,
  blockZ                  INTEGER NOT NULL,
  staticSharedMemory      INTEGER NOT NULL,  -- bytes
  dynamicSharedMemory     INTEGER NOT NULL,  -- bytes
  localMemoryPerThread    INTEGER NOT NULL,  -- bytes
  localMemoryTotal        INTEGER NOT NULL,  -- bytes
  gridId                  INTEGER NOT NULL,
  sharedMemoryExecuted    INTEGER,           -- bytes
  graphNodeId             INTEGER,           -- NULL: not launched by a CUDA graph
  sharedMemoryLimitConfig INTEGER,
  step                    INTEGER,
  layer                   INTEGER,
  expert                  INTEGER,
  work_kind               INTEGER,           -- ENUM_WORK_KIND of the launch
  copy_reason             INTEGER            -- ENUM_COPY_REASON, when it was launched as a copy
) STRICT;

CREATE TABLE CUPTI_ACTIVITY_KIND_MEMCPY (
  start           INTEGER NOT NULL,  -- ns
  end             INTEGER NOT NULL,  -- ns
  deviceId        INTEGER NOT NULL,
  contextId       INTEGER NOT NULL,
  greenContextId  INTEGER,
  streamId        INTEGER NOT NULL,
  correlationId   INTEGER,
  globalPid       INTEGER,           -- process id << 24
  bytes           INTEGER NOT NULL,
  copyKind        INTEGER NOT NULL,  -- ENUM_CUDA_MEMCPY_OPER
  deprecatedSrcId INTEGER,
  srcKind         INTEGER,           -- ENUM_CUDA_MEM_KIND
  dstKind         INTEGER,           -- ENUM_CUDA_MEM_KIND
  srcDeviceId     INTEGER,
  srcContextId    INTEGER,
  dstDeviceId     INTEGER,
  dstContextId    INTEGER,
  migrationCause  INTEGER,
  graphNodeId     INTEGER,
  virtualAddress  INTEGER,
  copyCount       INTEGER,           -- copies that a batch call merged into this one
  step            INTEGER,
  layer           INTEGER,
  expert          INTEGER,
  work_kind       INTEGER,           -- ENUM_WORK_KIND, when it was part of a launch
  copy_reason     INTEGER            -- ENUM_COPY_REASON
) STRICT;

CREATE TABLE CUPTI_ACTIVITY_KIND_MEMSET (
  start          INTEGER NOT NULL,  -- ns
  end            INTEGER NOT NULL,  -- ns
  deviceId       INTEGER NOT NULL,
  contextId      INTEGER NOT NULL,
  greenContextId INTEGER,
  streamId       INTEGER NOT NULL,
  correlationId  INTEGER,
  globalPid      INTEGER,           -- process id << 24
  value          INTEGER NOT NULL,
  bytes          INTEGER NOT NULL,
  graphNodeId    INTEGER,
  memKind        INTEGER,           -- ENUM_CUDA_MEM_KIND
  step           INTEGER,
  layer          INTEGER,
  expert         INTEGER,
  work_kind      INTEGER,           -- ENUM_WORK_KIND
  copy_reason    INTEGER            -- ENUM_COPY_REASON
) STRICT;

CREATE TABLE CUPTI_ACTIVITY_KIND_SYNCHRONIZATION (
  start          INTEGER NOT NULL,  -- ns
  end            INTEGER NOT NULL,  -- ns
  deviceId       INTEGER NOT NULL,
  contextId      INTEGER NOT NULL,
  greenContextId INTEGER,
  streamId       INTEGER NOT NULL,  -- 4294967295: of no stream
  correlationId  INTEGER,
  globalPid      INTEGER,           -- process id << 24
  syncType       INTEGER NOT NULL,  -- ENUM_CUPTI_SYNC_TYPE
  eventId        INTEGER NOT NULL,  -- 4294967295: of no event
  eventSyncId    INTEGER
) STRICT;

-- What CUPTI and the driver cost the host's threads.
CREATE TABLE CUPTI_ACTIVITY_KIND_OVERHEAD (
  start         INTEGER NOT NULL,  -- ns
  end           INTEGER NOT NULL,  -- ns
  eventClass    INTEGER NOT NULL,
  globalTid     INTEGER,           -- process id << 24 | thread id
  correlationId INTEGER,
  nameId        INTEGER,           -- StringIds
  overheadType  INTEGER            -- ENUM_CUPTI_OVERHEAD_TYPE
) STRICT;

CREATE TABLE ENUM_CUDA_MEMCPY_OPER (id INTEGER NOT NULL PRIMARY KEY, name TEXT, label TEXT) STRICT;
CREATE TABLE ENUM_CUDA_MEM_KIND (id INTEGER NOT NULL PRIMARY KEY, name TEXT, label TEXT) STRICT;
CREATE TABLE ENUM_CUDA_KERNEL_LAUNCH_TYPE (id INTEGER NOT NULL PRIMARY KEY, name TEXT, label TEXT) STRICT;
CREATE TABLE ENUM_CUPTI_SYNC_TYPE (id INTEGER NOT NULL PRIMARY KEY, name TEXT, label TEXT) STRICT;
CREATE TABLE ENUM_CUPTI_OVERHEAD_TYPE (id INTEGER NOT NULL PRIMARY KEY, name TEXT, label TEXT) STRICT;

INSERT INTO ENUM_CUDA_MEMCPY_OPER VALUES (0, 'CUDA_MEMCPY_KIND_UNKNOWN', 'Unknown'),
  (1, 'CUDA_MEMCPY_KIND_HTOD', 'Host-to-Device'), (2, 'CUDA_MEMCPY_KIND_DTOH', 'Device-to-Host'),
  (3, 'CUDA_MEMCPY_KIND_HTOA', 'Host-to-Array'), (4, 'CUDA_MEMCPY_KIND_ATOH', 'Array-to-Host'),
  (5, 'CUDA_MEMCPY_KIND_ATOA', 'Array-to-Array'), (6, 'CUDA_MEMCPY_KIND_ATOD', 'Array-to-Device'),
  (7, 'CUDA_MEMCPY_KIND_DTOA', 'Device-to-Array'), (8, 'CUDA_MEMCPY_KIND_DTOD', 'Device-to-Device'),
  (9, 'CUDA_MEMCPY_KIND_HTOH', 'Host-to-Host'), (10, 'CUDA_MEMCPY_KIND_PTOP', 'Peer-to-Peer'),
  (11, 'CUDA_MEMCPY_KIND_UVM_HTOD', 'Unified Host-to-Device'), (12, 'CUDA_MEMCPY_KIND_UVM_DTOH', 'Unified Device-to-Host'),
  (13, 'CUDA_MEMCPY_KIND_UVM_DTOD', 'Unified Device-to-Device');
INSERT INTO ENUM_CUDA_MEM_KIND VALUES (0, 'CUDA_MEMOPR_MEMORY_KIND_PAGEABLE', 'Pageable'),
  (1, 'CUDA_MEMOPR_MEMORY_KIND_PINNED', 'Pinned'), (2, 'CUDA_MEMOPR_MEMORY_KIND_DEVICE', 'Device'),
  (3, 'CUDA_MEMOPR_MEMORY_KIND_ARRAY', 'Array'), (4, 'CUDA_MEMOPR_MEMORY_KIND_MANAGED', 'Managed'),
  (5, 'CUDA_MEMOPR_MEMORY_KIND_DEVICE_STATIC', 'Device Static'),
  (6, 'CUDA_MEMOPR_MEMORY_KIND_MANAGED_STATIC', 'Managed Static'), (7, 'CUDA_MEMOPR_MEMORY_KIND_UNKNOWN', 'Unknown');
INSERT INTO ENUM_CUDA_KERNEL_LAUNCH_TYPE VALUES (0, 'CUDA_KERNEL_LAUNCH_TYPE_UNKNOWN', 'Unknown'),
  (1, 'CUDA_KERNEL_LAUNCH_TYPE_REGULAR', 'Regular'),
  (2, 'CUDA_KERNEL_LAUNCH_TYPE_COOPERATIVE_SINGLE_DEVICE', 'Coop Single Device'),
  (3, 'CUDA_KERNEL_LAUNCH_TYPE_COOPERATIVE_MULTI_DEVICE', 'Coop Multi Device');
INSERT INTO ENUM_CUPTI_SYNC_TYPE VALUES (0, 'CUPTI_ACTIVITY_SYNCHRONIZATION_TYPE_UNKNOWN', 'Unknown'),
  (1, 'CUPTI_ACTIVITY_SYNCHRONIZATION_TYPE_EVENT_SYNCHRONIZE', 'Event sync'),
  (2, 'CUPTI_ACTIVITY_SYNCHRONIZATION_TYPE_STREAM_WAIT_EVENT', 'Stream wait sync'),
  (3, 'CUPTI_ACTIVITY_SYNCHRONIZATION_TYPE_STREAM_SYNCHRONIZE', 'Stream sync'),
  (4, 'CUPTI_ACTIVITY_SYNCHRONIZATION_TYPE_CONTEXT_SYNCHRONIZE', 'Context sync');
INSERT INTO ENUM_CUPTI_OVERHEAD_TYPE VALUES (0, 'CUPTI_ACTIVITY_OVERHEAD_UNKNOWN', 'Unknown'),
  (1, 'CUPTI_ACTIVITY_OVERHEAD_DRIVER_COMPILER', 'Driver compiler'),
  (65536, 'CUPTI_ACTIVITY_OVERHEAD_CUPTI_BUFFER_FLUSH', 'Buffer flush'),
  (131072, 'CUPTI_ACTIVITY_OVERHEAD_CUPTI_INSTRUMENTATION', 'Instrumentation'),
  (196608, 'CUPTI_ACTIVITY_OVERHEAD_CUPTI_RESOURCE', 'Resources'),
  (262144, 'CUPTI_ACTIVITY_OVERHEAD_RUNTIME_TRIGGERED_MODULE_LOADING', 'Module loading'),
  (327680, 'CUPTI_ACTIVITY_OVERHEAD_LAZY_FUNCTION_LOADING', 'Lazy function loading'),
  (393216, 'CUPTI_ACTIVITY_OVERHEAD_COMMAND_BUFFER_FULL', 'Command buffer full'),
  (458752, 'CUPTI_ACTIVITY_OVERHEAD_ACTIVITY_BUFFER_REQUEST', 'Buffer request'),
  (524288, 'CUPTI_ACTIVITY_OVERHEAD_UVM_ACTIVITY_INIT', 'Unified memory start');

-- Kernels with what they were launched for.
CREATE VIEW v_kernel AS
SELECT k.start AS start_ns, k.end AS end_ns, k.end - k.start AS duration_ns, s.value AS name, k.step, w.name AS kind,
       r.name AS reason, k.layer, k.expert, k.deviceId AS device, k.streamId AS stream, k.correlationId AS correlation
FROM CUPTI_ACTIVITY_KIND_KERNEL k LEFT JOIN StringIds s ON s.id = k.shortName LEFT JOIN ENUM_WORK_KIND w ON w.id = k.work_kind
     LEFT JOIN ENUM_COPY_REASON r ON r.id = k.copy_reason;

-- Copies as the device made them; v_copy has the engine's own word.
CREATE VIEW v_memcpy AS
SELECT m.start AS start_ns, m.end AS end_ns, m.end - m.start AS duration_ns, o.label AS direction, m.bytes, m.step,
       r.name AS reason, w.name AS kind, m.layer, m.expert, a.label AS source, b.label AS target, m.deviceId AS device,
       m.streamId AS stream, m.correlationId AS correlation
FROM CUPTI_ACTIVITY_KIND_MEMCPY m LEFT JOIN ENUM_CUDA_MEMCPY_OPER o ON o.id = m.copyKind
     LEFT JOIN ENUM_COPY_REASON r ON r.id = m.copy_reason LEFT JOIN ENUM_WORK_KIND w ON w.id = m.work_kind
     LEFT JOIN ENUM_CUDA_MEM_KIND a ON a.id = m.srcKind LEFT JOIN ENUM_CUDA_MEM_KIND b ON b.id = m.dstKind;

-- Schema 3

-- 1: not all of its picks ran with their router's weights, since a gate changed or dropped some.
ALTER TABLE demand ADD COLUMN revised INTEGER NOT NULL DEFAULT 0;
-- The exact computation beside the run (--shadow-exact): KL(exact || policy) over the logits of so many tokens, nats, and
-- how many of them have the same best token.
ALTER TABLE quality ADD COLUMN kl_sum REAL NOT NULL DEFAULT 0;
ALTER TABLE quality ADD COLUMN shadowed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE quality ADD COLUMN agreed INTEGER NOT NULL DEFAULT 0;

-- Its place among the prompts that are decoded together; 0 begins such a batch. A step of several prompts has
-- step.prompt 4294967295 and one token of each prompt whose token it sampled: token.step says which.
ALTER TABLE prompt ADD COLUMN sequence INTEGER NOT NULL DEFAULT 0;

DROP VIEW v_demand;
CREATE VIEW v_demand AS
SELECT d.id, d.step, h.name AS phase, s.epoch, d.layer, d.expert, d.asked_ns, d.ready_ns, d.ready_ns - d.asked_ns AS wait_ns,
       d.picks, d.rank, d.weight, t.name AS state, o.name AS outcome, p.name AS precision, d.device, d.prefetched, d.revised
FROM demand d LEFT JOIN step s ON s.step = d.step LEFT JOIN ENUM_PHASE h ON h.id = s.phase
     LEFT JOIN ENUM_DEMAND_STATE t ON t.id = d.state LEFT JOIN ENUM_OUTCOME o ON o.id = d.outcome
     LEFT JOIN ENUM_PRECISION p ON p.id = d.precision;
