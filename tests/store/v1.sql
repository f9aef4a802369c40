BEGIN TRANSACTION;
CREATE TABLE architecture (
	"key" VARCHAR NOT NULL, 
	space VARCHAR NOT NULL, 
	choices JSON NOT NULL, 
	PRIMARY KEY ("key")
);
INSERT INTO "architecture" VALUES('c60de82cd6dfc05ad4a0bcf4de154302','toy','{"depth":1,"dilation":1,"kernel":3,"width":32}');
INSERT INTO "architecture" VALUES('f10f2d574cb858cf1981644d083f1ad5','toy','{"depth":2,"kernel":5,"width":32}');
INSERT INTO "architecture" VALUES('806ef0603292a64bfb7f347136ec5f26','toy','{"depth":3,"kernel":7,"width":32}');
CREATE TABLE evaluation (
	"key" VARCHAR NOT NULL, 
	build VARCHAR NOT NULL, 
	recipe VARCHAR NOT NULL, 
	data VARCHAR NOT NULL, 
	rung INTEGER NOT NULL, 
	seed BIGINT NOT NULL, 
	"values" JSON NOT NULL, 
	created DATETIME NOT NULL, 
	PRIMARY KEY ("key", build, recipe, data, rung, seed)
);
INSERT INTO "evaluation" VALUES('kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk','b0','r','d',9,3,'{"final":{"file":"f.onnx"}}','2026-11-21 08:30:00.000000');
CREATE TABLE event (
	study VARCHAR NOT NULL, 
	sequence INTEGER NOT NULL, 
	kind VARCHAR NOT NULL, 
	trial INTEGER NOT NULL, 
	payload JSON NOT NULL, 
	created DATETIME NOT NULL, 
	PRIMARY KEY (study, sequence), 
	FOREIGN KEY(study) REFERENCES study (name)
);
INSERT INTO "event" VALUES('toy',0,'proposed',0,'{"architecture":{"space":"toy","choices":{"depth":1,"dilation":1,"kernel":3,"width":32}},"origin":"strategy","notes":{"generation":0}}','2026-11-21 08:30:00.000000');
INSERT INTO "event" VALUES('toy',1,'told',0,'{"state":"complete","values":{"accuracy":90.5,"macs":1000000.0},"violations":{"latency_ms<=8":-0.5}}','2026-11-21 08:30:00.000000');
INSERT INTO "event" VALUES('toy',2,'proposed',1,'{"architecture":{"space":"toy","choices":{"depth":2,"kernel":5,"width":32}},"origin":"strategy","notes":{"generation":0}}','2026-11-21 08:30:00.000000');
INSERT INTO "event" VALUES('toy',3,'told',1,'{"state":"complete","values":{"accuracy":91.5,"macs":2000000.0},"violations":{"latency_ms<=8":-0.5}}','2026-11-21 08:30:00.000000');
INSERT INTO "event" VALUES('toy',4,'proposed',2,'{"architecture":{"space":"toy","choices":{"depth":3,"kernel":7,"width":32}},"origin":"strategy","notes":{"generation":0}}','2026-11-21 08:30:00.000000');
CREATE TABLE front (
	study VARCHAR NOT NULL, 
	device VARCHAR NOT NULL, 
	space VARCHAR NOT NULL, 
	objectives JSON NOT NULL, 
	trials JSON NOT NULL, 
	hypervolume DOUBLE NOT NULL, 
	reference JSON NOT NULL, 
	created DATETIME NOT NULL, 
	PRIMARY KEY (study, device), 
	FOREIGN KEY(study) REFERENCES study (name)
);
INSERT INTO "front" VALUES('toy','cpu','toy','[{"name":"accuracy","unit":"%","goal":"maximize","needs":"trained"},{"name":"macs","unit":"MACs","goal":"minimize","needs":"module"}]','{"complete":2}',1.5,'[80.0,3000000.0]','2026-11-21 08:30:00.000000');
CREATE TABLE front_member (
	study VARCHAR NOT NULL, 
	device VARCHAR NOT NULL, 
	position INTEGER NOT NULL, 
	trial INTEGER NOT NULL, 
	membership DOUBLE NOT NULL, 
	measurements JSON NOT NULL, 
	PRIMARY KEY (study, device, position), 
	FOREIGN KEY(study, device) REFERENCES front (study, device), 
	FOREIGN KEY(study, trial) REFERENCES trial (study, number)
);
INSERT INTO "front_member" VALUES('toy','cpu',0,0,0.75,'{"latency_ms":{"objective":"latency_ms","value":1.5,"unit":"ms","low":1.4,"high":1.7,"se":0.05,"n":40,"source":"measured","basis":"trained file","record":{"p99_ms":2.25}}}');
CREATE TABLE measurement (
	build VARCHAR NOT NULL, 
	form VARCHAR NOT NULL, 
	workload VARCHAR NOT NULL, 
	host VARCHAR NOT NULL, 
	runtime VARCHAR NOT NULL, 
	protocol VARCHAR NOT NULL, 
	device VARCHAR NOT NULL, 
	objective VARCHAR NOT NULL, 
	value DOUBLE NOT NULL, 
	unit VARCHAR NOT NULL, 
	low DOUBLE NOT NULL, 
	high DOUBLE NOT NULL, 
	se DOUBLE NOT NULL, 
	n INTEGER NOT NULL, 
	source VARCHAR NOT NULL, 
	basis VARCHAR NOT NULL, 
	record JSON NOT NULL, 
	created DATETIME NOT NULL, 
	PRIMARY KEY (build, form, workload, host, runtime, protocol)
);
INSERT INTO "measurement" VALUES('b0','trained','b1','h','ort','p','cpu','latency_ms',1.5,'ms',1.4,1.7,0.05,40,'measured','trained file','{"p99_ms":2.25}','2026-11-21 08:30:00.000000');
CREATE TABLE nas_schema (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT nas_schema_pkc PRIMARY KEY (version_num)
);
INSERT INTO "nas_schema" VALUES('1');
CREATE TABLE study (
	name VARCHAR NOT NULL, 
	spec JSON NOT NULL, 
	space VARCHAR NOT NULL, 
	device VARCHAR NOT NULL, 
	trials INTEGER NOT NULL, 
	created DATETIME NOT NULL, 
	updated DATETIME NOT NULL, 
	sequence INTEGER NOT NULL, 
	epoch INTEGER NOT NULL, 
	writer_host VARCHAR, 
	writer_process INTEGER, 
	writer_started VARCHAR, 
	PRIMARY KEY (name)
);
INSERT INTO "study" VALUES('toy','{"name":"toy","space":"toy","task":{"source":"digits","input":[3,32,32],"outputs":10,"score_name":"accuracy","score_unit":"%","goal":"maximize","examples":900,"digest":"dddddddddddddddddddddddddddddddd"},"device":"cpu","objectives":[{"name":"accuracy","unit":"%","goal":"maximize","needs":"trained"},{"name":"macs","unit":"MACs","goal":"minimize","needs":"module"}],"constraints":[],"strategy":"random","promotion":"halving","trials":12,"hours":null,"fidelity":{"epochs":9,"data":1.0,"reduction":3,"first":1},"recipe":{},"confirm":0.2,"seed":3,"presets":[],"network":null,"weights":null,"fresh":false,"files":{}}','toy','cpu',12,'2026-11-21 08:30:00.000000','2026-11-21 08:30:00.000000',5,2,NULL,NULL,NULL);
CREATE TABLE trial (
	study VARCHAR NOT NULL, 
	number INTEGER NOT NULL, 
	architecture VARCHAR NOT NULL, 
	origin VARCHAR NOT NULL, 
	notes JSON NOT NULL, 
	state VARCHAR NOT NULL, 
	build VARCHAR, 
	file VARCHAR, 
	costs JSON NOT NULL, 
	uncounted JSON NOT NULL, 
	measurements JSON NOT NULL, 
	rungs JSON NOT NULL, 
	trained JSON NOT NULL, 
	"values" JSON NOT NULL, 
	violations JSON NOT NULL, 
	attempts INTEGER NOT NULL, 
	error VARCHAR, 
	reused VARCHAR, 
	created DATETIME NOT NULL, 
	updated DATETIME NOT NULL, 
	PRIMARY KEY (study, number), 
	FOREIGN KEY(study) REFERENCES study (name), 
	FOREIGN KEY(architecture) REFERENCES architecture ("key")
);
INSERT INTO "trial" VALUES('toy',0,'c60de82cd6dfc05ad4a0bcf4de154302','strategy','{"generation":0}','complete','b0',NULL,'{"macs":1000000.0}','[]','{"latency_ms@cpu:b1/trained":{"objective":"latency_ms","value":1.5,"unit":"ms","low":1.4,"high":1.7,"se":0.05,"n":40,"source":"measured","basis":"trained file","record":{"p99_ms":2.25}}}','[{"repeat":0,"rung":0,"epochs":1,"score":70.5,"n":300,"checkpoint":"c.safetensors","decision":"continue","reused":false},{"repeat":0,"rung":1,"epochs":3,"score":80.25,"n":300,"checkpoint":"c.safetensors","decision":"continue","reused":false}]','[{"repeat":0,"file":"f.onnx","score":90.5,"score_se":1.0,"score_n":300,"confirm":90.25,"confirm_se":1.5,"confirm_n":150}]','{"accuracy":90.5,"macs":1000000.0}','{"latency_ms<=8":-0.5}',0,NULL,NULL,'2026-11-21 08:30:00.000000','2026-11-21 08:30:00.000000');
INSERT INTO "trial" VALUES('toy',1,'f10f2d574cb858cf1981644d083f1ad5','strategy','{"generation":0}','complete','b1',NULL,'{"macs":2000000.0}','[]','{"latency_ms@cpu:b1/trained":{"objective":"latency_ms","value":1.5,"unit":"ms","low":1.4,"high":1.7,"se":0.05,"n":40,"source":"measured","basis":"trained file","record":{"p99_ms":2.25}}}','[{"repeat":0,"rung":0,"epochs":1,"score":70.5,"n":300,"checkpoint":"c.safetensors","decision":"continue","reused":false},{"repeat":0,"rung":1,"epochs":3,"score":80.25,"n":300,"checkpoint":"c.safetensors","decision":"continue","reused":false}]','[{"repeat":0,"file":"f.onnx","score":91.5,"score_se":1.0,"score_n":300,"confirm":90.25,"confirm_se":1.5,"confirm_n":150}]','{"accuracy":91.5,"macs":2000000.0}','{"latency_ms<=8":-0.5}',0,NULL,NULL,'2026-11-21 08:30:00.000000','2026-11-21 08:30:00.000000');
INSERT INTO "trial" VALUES('toy',2,'806ef0603292a64bfb7f347136ec5f26','strategy','{"generation":0}','running','b2',NULL,'{"macs":3000000.0}','[]','{}','[]','[]','{}','{}',0,NULL,NULL,'2026-11-21 08:30:00.000000','2026-11-21 08:30:00.000000');
CREATE INDEX ix_trial_architecture ON trial (architecture);
COMMIT;
