-- A part of rocpd's schema, version 3, with its views, and one dispatch of a kernel.
CREATE TABLE rocpd_metadata_00001 (id INTEGER PRIMARY KEY, tag TEXT NOT NULL, value TEXT NOT NULL);
INSERT INTO rocpd_metadata_00001 (tag, value) VALUES ('schema_version', '3');
CREATE TABLE rocpd_info_agent_00001 (id INTEGER PRIMARY KEY, guid TEXT, nid INTEGER, pid INTEGER, type TEXT, absolute_index INTEGER, name TEXT, product_name TEXT, extdata JSONB DEFAULT '{}' NOT NULL);
INSERT INTO rocpd_info_agent_00001 VALUES (1, 'g', 1, 1, 'CPU', 0, 'AMD EPYC', 'AMD EPYC', '{}');
INSERT INTO rocpd_info_agent_00001 VALUES (2, 'g', 1, 1, 'GPU', 1, 'gfx942', 'AMD Instinct MI300X', '{"cu_count": 304, "num_xcc": 8, "simd_per_cu": 4, "max_waves_per_simd": 8}');
CREATE VIEW rocpd_info_agent AS SELECT * FROM rocpd_info_agent_00001;
CREATE TABLE rocpd_timestamp_00001 (id INTEGER PRIMARY KEY, guid TEXT, value BIGINT NOT NULL);
INSERT INTO rocpd_timestamp_00001 VALUES (1, 'g', 5000000), (2, 'g', 5400000);
CREATE TABLE rocpd_info_kernel_symbol_00001 (id INTEGER PRIMARY KEY, guid TEXT, kernel_name TEXT, display_name TEXT, sgpr_count INTEGER, arch_vgpr_count INTEGER, accum_vgpr_count INTEGER);
INSERT INTO rocpd_info_kernel_symbol_00001 VALUES (9, 'g', '_Z4convPf.kd', 'conv(float*)', 96, 128, 64);
CREATE TABLE rocpd_kernel_dispatch_00001 (id INTEGER PRIMARY KEY, guid TEXT, kernel_id INTEGER, dispatch_id INTEGER, start_id INTEGER, end_id INTEGER, private_segment_size INTEGER, group_segment_size INTEGER, workgroup_size_x INTEGER, workgroup_size_y INTEGER, workgroup_size_z INTEGER, grid_size_x INTEGER, grid_size_y INTEGER, grid_size_z INTEGER, event_id INTEGER);
INSERT INTO rocpd_kernel_dispatch_00001 VALUES (1, 'g', 9, 1, 1, 2, 176, 16384, 256, 1, 1, 524288, 2, 1, 5);
CREATE TABLE rocpd_info_pmc_00001 (id INTEGER PRIMARY KEY, guid TEXT, agent_id INTEGER, name TEXT NOT NULL, symbol TEXT NOT NULL);
INSERT INTO rocpd_info_pmc_00001 VALUES (1, 'g', 2, 'GRBM_GUI_ACTIVE', 'GRBM_GUI_ACTIVE'), (2, 'g', 2, 'SQ_WAVE_CYCLES', 'SQ_WAVE_CYCLES'), (3, 'g', 2, 'SQ_WAIT_ANY', 'SQ_WAIT_ANY'), (4, 'g', 2, 'TA_BUFFER_WAVEFRONTS_sum', 'TA_BUFFER_WAVEFRONTS_sum'), (5, 'g', 2, 'TA_TOTAL_WAVEFRONTS_sum', 'TA_TOTAL_WAVEFRONTS_sum'), (6, 'g', 2, 'SQ_ACTIVE_INST_VALU', 'SQ_ACTIVE_INST_VALU'), (7, 'g', 2, 'SQ_ACTIVE_INST_VMEM', 'SQ_ACTIVE_INST_VMEM'), (8, 'g', 2, 'SQ_ACTIVE_INST_FLAT', 'SQ_ACTIVE_INST_FLAT'), (9, 'g', 2, 'SQ_THREAD_CYCLES_VALU', 'SQ_THREAD_CYCLES_VALU'), (10, 'g', 2, 'MY_OWN_COUNTER', 'MY_OWN_COUNTER');
CREATE TABLE rocpd_pmc_event_00001 (id INTEGER PRIMARY KEY, guid TEXT, event_id INTEGER, pmc_id INTEGER NOT NULL, value REAL);
INSERT INTO rocpd_pmc_event_00001 (guid, event_id, pmc_id, value) VALUES ('g', 5, 1, 6720000), ('g', 5, 2, 900000000), ('g', 5, 3, 560000000), ('g', 5, 4, 1800000), ('g', 5, 5, 3000000), ('g', 5, 6, 71000000), ('g', 5, 7, 30000000), ('g', 5, 8, 0), ('g', 5, 9, 4500000000), ('g', 5, 10, 1);
CREATE VIEW kernels AS SELECT K.id, S.display_name AS name, K.dispatch_id, DS.value AS start, DE.value AS end, K.grid_size_x AS grid_x, K.grid_size_y AS grid_y, K.grid_size_z AS grid_z, K.workgroup_size_x AS workgroup_x, K.workgroup_size_y AS workgroup_y, K.workgroup_size_z AS workgroup_z, K.group_segment_size AS lds_size, K.private_segment_size AS scratch_size, S.sgpr_count, S.arch_vgpr_count, S.accum_vgpr_count, K.event_id FROM rocpd_kernel_dispatch_00001 K INNER JOIN rocpd_info_kernel_symbol_00001 S ON S.id = K.kernel_id INNER JOIN rocpd_timestamp_00001 DS ON DS.id = K.start_id INNER JOIN rocpd_timestamp_00001 DE ON DE.id = K.end_id;
CREATE VIEW kernel_pmc_events AS SELECT K.*, I.name AS pmc_name, E.value AS pmc_value FROM kernels K INNER JOIN rocpd_pmc_event_00001 E ON E.event_id = K.event_id INNER JOIN rocpd_info_pmc_00001 I ON I.id = E.pmc_id;
