"""Make the bucket for MLflow's artifacts unless it is there; server and keys come from the environment."""

import sys

import boto3

client, name = boto3.client("s3"), sys.argv[1]
if name not in [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]:
    client.create_bucket(Bucket=name)
