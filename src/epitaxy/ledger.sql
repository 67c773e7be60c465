-- The ledger's tables. Rows are only ever added: triggers refuse every change and removal, and a
-- second insertion of a known row is ignored. Digests are sha256 in hexadecimal.

create table if not exists problems (
  number integer primary key,
  digest text not null unique,
  name text not null,
  body text not null
) strict;

create table if not exists sources (
  digest text primary key,
  content blob not null
) strict, without rowid;

create table if not exists candidates (
  number integer primary key,
  digest text not null unique,
  problem text not null references problems (digest),
  body text not null
) strict;

create table if not exists machines (
  digest text primary key,
  body text not null
) strict, without rowid;

create table if not exists verdicts (
  number integer primary key,
  digest text not null unique,
  candidate text not null references candidates (digest),
  problem text not null references problems (digest),
  machine text not null,
  plan text not null,
  status text not null,
  body text not null
) strict;
create index if not exists verdicts_by_problem on verdicts (problem, machine);
create index if not exists verdicts_by_candidate on verdicts (candidate);

create table if not exists profiles (
  number integer primary key,
  digest text not null unique,
  candidate text not null references candidates (digest),
  machine text not null,
  body text not null
) strict;
create index if not exists profiles_by_candidate on profiles (candidate);

create table if not exists events (
  number integer primary key,
  problem text not null,
  kind text not null,
  unix_s real not null,
  body text not null
) strict;
create index if not exists events_by_problem on events (problem);

-- One link for each row above; see chain.py. autoincrement remembers the last number ever given.
create table if not exists chain (
  number integer primary key autoincrement,
  kind text not null,
  key text not null,
  content text not null,
  digest text not null unique
) strict;

create trigger if not exists chain_stay before update on chain begin select raise(abort, 'append-only'); end;
create trigger if not exists chain_kept before delete on chain begin select raise(abort, 'append-only'); end;
create trigger if not exists problems_stay before update on problems begin select raise(abort, 'append-only'); end;
create trigger if not exists sources_stay before update on sources begin select raise(abort, 'append-only'); end;
create trigger if not exists candidates_stay before update on candidates begin select raise(abort, 'append-only'); end;
create trigger if not exists machines_stay before update on machines begin select raise(abort, 'append-only'); end;
create trigger if not exists verdicts_stay before update on verdicts begin select raise(abort, 'append-only'); end;
create trigger if not exists profiles_stay before update on profiles begin select raise(abort, 'append-only'); end;
create trigger if not exists profiles_kept before delete on profiles begin select raise(abort, 'append-only'); end;
create trigger if not exists events_stay before update on events begin select raise(abort, 'append-only'); end;
create trigger if not exists problems_kept before delete on problems begin select raise(abort, 'append-only'); end;
create trigger if not exists sources_kept before delete on sources begin select raise(abort, 'append-only'); end;
create trigger if not exists candidates_kept before delete on candidates begin select raise(abort, 'append-only'); end;
create trigger if not exists machines_kept before delete on machines begin select raise(abort, 'append-only'); end;
create trigger if not exists verdicts_kept before delete on verdicts begin select raise(abort, 'append-only'); end;
create trigger if not exists events_kept before delete on events begin select raise(abort, 'append-only'); end;
