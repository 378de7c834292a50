from seethink.cli import main

raise SystemExit(main())
