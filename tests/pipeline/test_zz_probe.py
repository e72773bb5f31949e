import s3fs, pytest, os, sys
from pipeline import storage, plan, manifest
from pipeline.settings import Limits
from pipeline.errors import ClipError
def test_a(s3, monkeypatch, tmp_path):
    fs=s3fs.S3FileSystem(); 
    fs.pipe_file(f"{s3}/z/m.jsonl", b'{"image":"a.png","audio":"a.wav"}\n{"image":"a.png","audio":"../b.wav"}')
    mm=manifest.read_manifest(f"{s3}/z/m.jsonl"); print(mm.clips)
    try: storage.check_writable("s3://typo-bucket/out"); print("CREATED")
    except Exception as e: print("check_writable",repr(e))
    print(fs.ls(""))
    for n in ("AWS_ACCESS_KEY_ID","AWS_SECRET_ACCESS_KEY"): monkeypatch.delenv(n)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED","true"); monkeypatch.setenv("HOME",str(tmp_path))
    s3fs.S3FileSystem.clear_instance_cache()
    for f in (lambda: storage.read_input(f"{s3}/z/m.jsonl",Limits()), lambda: manifest.read_manifest(f"{s3}/z/m.jsonl"), lambda: plan.estimate_seconds(mm.clips,Limits()), lambda: storage.local_model(f"{s3}/m"), lambda: storage.check_writable(f"{s3}/m")):
        try: print(f())
        except BaseException as e: print(type(e).__mro__[:3], getattr(e,"code",""), str(e)[:200])
    s3fs.S3FileSystem.clear_instance_cache()
    try: storage.read_input("S3://tests/z/m.jsonl",Limits())
    except ClipError as e: print(e.code,e.message)
