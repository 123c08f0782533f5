"""DBOS beside the mesh: one process, workflows of five durable no-op steps, the same PostgreSQL.

    five_steps_on_dbos.py CONNECTION CONCURRENCY SECONDS

CONNECTION is a libpq connection string; a database `dbos` of its own is made there.

So many workflows are in flight at a time, first in threads, then as coroutines: what DBOS does better
counts. Prints one JSON object: workflows a second, and the median of one workflow in milliseconds.
"""

import asyncio
import json
import statistics
import sys
import threading
import time
from urllib.parse import quote, urlencode

from dbos import DBOS
from psycopg.conninfo import conninfo_to_dict

STEPS = 5
WARM_UP_SECONDS = 1.0
POOL = 20


@DBOS.step()
def step(number):
    return number


@DBOS.workflow()
def workflow():
    for number in range(STEPS):
        step(number)


@DBOS.step()
async def step_async(number):
    return number


@DBOS.workflow()
async def workflow_async():
    for number in range(STEPS):
        await step_async(number)


def in_threads(concurrency, until, times):
    def work():
        while time.monotonic() < until:
            begin = time.monotonic()
            workflow()
            times.append(time.monotonic() - begin)

    threads = [threading.Thread(target=work) for _ in range(concurrency)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def as_coroutines(concurrency, until, times):
    async def work():
        while time.monotonic() < until:
            begin = time.monotonic()
            await workflow_async()
            times.append(time.monotonic() - begin)

    async def all_of_them():
        await asyncio.gather(*(work() for _ in range(concurrency)))

    asyncio.run(all_of_them())


def measure(run, concurrency, seconds):
    run(concurrency, time.monotonic() + WARM_UP_SECONDS, [])
    times = []
    begin = time.monotonic()
    run(concurrency, begin + seconds, times)
    rate = len(times) / (time.monotonic() - begin)
    return {"rate": rate, "p50_ms": statistics.median(times) * 1000}


def url_of(connection):
    facts = conninfo_to_dict(connection)
    where = urlencode({"host": facts["host"], "port": facts["port"]})
    return f"postgresql://{quote(facts['user'])}@/dbos?{where}"


def main():
    connection, concurrency, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    DBOS(
        config={
            "name": "bench",
            "system_database_url": url_of(connection),
            "sys_db_pool_size": max(POOL, concurrency),
            "run_admin_server": False,
            "log_level": "ERROR",
        }
    )
    DBOS.launch()
    measured = [measure(run, concurrency, seconds) for run in (in_threads, as_coroutines)]
    print(json.dumps(max(measured, key=lambda one: one["rate"])), flush=True)
    DBOS.destroy()


main()
