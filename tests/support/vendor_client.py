"""The official client's requests, byte for byte as httpx sends them. Here `http.client` sends them; use it from another thread."""

import http.client
import json
import time

JOB = {
    "id": None,
    "targetName": "ACTIVITIES",
    "dataPoolId": "pool-1",
    "connectionId": None,
    "type": "REPLACE",
    "fileType": "PARQUET",
    "keys": None,
    "upsertStrategy": "UPSERT_WITH_NULLIFICATION",
    "fallbackVarcharLength": 80,
    "tableSchema": {
        "tableName": "ACTIVITIES",
        "columns": [
            {"columnName": "ID", "columnType": "INTEGER", "fieldLength": None, "decimals": None, "pkField": None},
            {"columnName": "NAME", "columnType": "STRING", "fieldLength": 4, "decimals": None, "pkField": None},
        ],
    },
    "csvParsingOptions": None,
    "allowDuplicate": None,
    "optionalTenantId": None,
    "status": None,
    "logs": None,
    "lastModified": None,
    "mirrorTargetNames": None,
}


class VendorClient:
    """A client that keeps one connection, as httpx does, and rejects the responses that the vendor's response processor rejects."""

    def __init__(self, port, authorization):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        self.headers = {
            "Accept": "*/*",
            "Accept-Encoding": "gzip, deflate",
            "Connection": "keep-alive",
            "User-Agent": "pycelonis/2.20.1",
            "Authorization": authorization,
        }
        self.base = "/data-ingestion/api/v1/data-push/pool-1/jobs/"

    def request(self, method, path, body=None, *, parse=False, **headers):
        sent = self.headers | {name.replace("_", "-"): value for name, value in headers.items()}
        self.connection.request(method, path, body, sent)
        response = self.connection.getresponse()
        content = response.read()
        assert response.status == 200, content
        if parse:
            assert "application/json" in response.headers["Content-Type"]
            return json.loads(content)
        return None

    def push(self, content):
        body = json.dumps(JOB).encode()
        job = self.request("POST", self.base, body, parse=True, Content_Type="application/json")
        boundary = "0123456789abcdef0123456789abcdef"
        form = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="file"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        ).encode()
        form += content + f"\r\n--{boundary}--\r\n".encode()
        content_type = f"multipart/form-data; boundary={boundary}"
        self.request("POST", f"{self.base}{job['id']}/chunks/upserted", form, Content_Type=content_type)
        self.request("POST", self.base + job["id"])
        job = self.wait(job["id"])
        self.request("DELETE", self.base + job["id"])
        self.connection.close()
        return job

    def wait(self, job_id):
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            job = self.request("GET", self.base + job_id, parse=True)
            if job["status"] in {"DONE", "ERROR"}:
                return job
            time.sleep(0.01)
        raise AssertionError("the job did not finish")
